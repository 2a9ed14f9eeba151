// The JSON of /api/v1, as docs/formats.md pins it, and the calls that fetch it.

export interface Estimate {
  value: number | null;
  low: number | null;
  high: number | null;
  level: number;
  n: number;
  unit: string;
  method: string;
}

export interface Run {
  id: number;
  command: string;
  kind: string;
  name: string;
  state: "running" | "done" | "failed" | "stopped" | "killed";
  started: number;
  ended: number | null;
  done: number;
  total: number | null;
  unit: string;
  note: string;
  seconds: number;
  rate: number;
  left: number | null;
}

export interface Status {
  busy: boolean;
  runs: Run[];
}

export type Line = Record<string, number | string | null>;

export interface Metrics {
  curve: Line[];
  held_out: Line[];
  samples: Line[];
  last: Line | null;
}

export interface Summary {
  name: string;
  error?: string;
  model: string;
  site: string;
  n_features: number;
  tokens: number;
  documents: number;
  dead: number;
  dense: number;
  clear: number;
  unclear: number;
  kinds: string[];
  coverage: Record<string, unknown>;
}

export interface Contents {
  name: string;
  models: string[];
  versions: string[];
  activations: string[];
  dictionaries: string[];
  features: Summary[];
}

export interface Version {
  name: string;
  model: string;
  system: string;
  edit: string;
  hash: string;
  behaviours: string[];
  discovered: string[];
}

export type Verdict = "regressed" | "improved" | "equivalent" | "underpowered";

export interface Pair {
  family: string;
  prompt: number;
  turns: { role: string; content: string }[];
  was: number;
  now: number;
  before: string;
  after: string;
}

export interface Cell {
  behaviour: string;
  about: string;
  tag: "target" | "guard" | "neutral";
  good: "up" | "down";
  unit: string;
  margin: number;
  base: Estimate;
  new: Estimate;
  change: Estimate;
  verdict: Verdict;
  problem: string;
  p_moved: number;
  p_adjusted: number;
  p_equivalent: number;
  needed: number | null;
  parts: { families: number; wordings: number; sampling: number };
  families: number;
  prompts: number;
  unscored: number;
  worst: Pair[];
}

export interface Comparison {
  base: Version;
  new: Version;
  cells: Cell[];
  missing: string[];
  unsound: Record<string, string>;
}

export interface Difference {
  name: string;
  where: "outside" | "inside";
  kind: string;
  change: Estimate;
  also: string[];
  pairs: { family: string; turns: { role: string; content: string | null }[]; before: string; after: string }[];
  pattern: { trait: string; kind: string; good: "up" | "down" } | null;
}

export interface Discovery {
  groups: Difference[];
  proposed: number;
  prompts: number;
  dictionary: string | null;
  apart: { share: Estimate; p: number } | null;
  embedded?: { share: Estimate; p: number } | null;
}

export interface Ran {
  evaluation: string;
  created: string;
  error?: string;
  name: string;
  model: string;
  hash: string;
  system: string;
  names: string[];
  asked: string;
  seed: number;
  mean: Estimate | null;
  samples: number;
  unscored: number;
}

export interface History {
  behaviour: string;
  about: string;
  unit: string;
  good: "up" | "down";
  margin: number | null;
  rows: Ran[];
}

export interface WordingSide {
  spread: Estimate | null;
  parts: { families: number; wordings: number; sampling: number };
}

export interface Wordings {
  behaviour: string;
  unit: string;
  families: number;
  base: WordingSide;
  new: WordingSide;
  numbers: { wording: number; families: number; base: Estimate; new: Estimate }[];
  rows: {
    family: string;
    spread: number;
    wordings: { wording: number; turns: { role: string; content: string | null }[]; base: number; new: number }[];
  }[];
}

export interface Axis {
  axis: string;
  behaviour: string;
  measure: string;
  unit: string;
  good: "up" | "down";
  margin: number | null;
}

export interface Point {
  name: string;
  names: string[];
  hash: string;
  model: string;
  system: string;
  x: Estimate;
  y: Estimate;
  state: "front" | "dominated" | "cannot tell";
  by: string[];
  undecided: string[];
}

export interface Sweep {
  name: string;
  what: string;
  at: number[];
  points: number[];
}

export interface Plane {
  x: Axis | null;
  y: Axis | null;
  of: string | null;
  points: Point[];
  sweeps: Sweep[];
  left_out: { name: string; why: string }[];
  behaviours: { name: string; unit: string; good: "up" | "down"; versions: number }[];
  families: string[];
}

export interface Turn {
  role: string;
  content: string;
}

/** What a rater is shown; which side is which version is not said. */
export interface Shown {
  pair: string | null;
  turns?: Turn[];
  left?: string;
  right?: string;
  rating?: number | null;
  rated: number;
  skipped: number;
  pairs: number;
}

export interface Study {
  base: string;
  new: string;
  pairs: number;
  ratings: number;
  raters: number;
}

export interface Rated {
  ratings: number;
  new: number;
  same: number;
  base: number;
  new_left: number;
}

export interface Preferences {
  base: Version;
  new: Version;
  pairs: number;
  same: number;
  ratings: number;
  rated_pairs: number;
  verdict: string;
  preferred: Estimate | null;
  rating: Estimate | null;
  p_anytime: number;
  left_won: Estimate | null;
  agreement: { alpha: Estimate | null; pairs: number };
  raters: (Rated & { who: string })[];
  behaviours: (Rated & { behaviour: string })[];
}

export type ChatEvent =
  | { event: "begin"; chat: string }
  | { event: "text"; text: string }
  | { event: "stop"; why: string; tokens: number }
  | { event: "error"; error: string }
  | { event: "end" };

export interface Cases {
  kinds: Record<string, string>;
  found: { kind: string; file: string; asked: string; expect: string; note: string }[];
}

export interface KeptCase {
  file: string;
  families: number;
  added: boolean;
  command: string;
}

export interface SplitResults {
  base: Version;
  new: Version;
  share: number;
  sides: Record<"base" | "new", { chats: number; with_thumbs: number; up: Estimate | null }>;
  change: Estimate | null;
  verdict: string;
  p_anytime: number;
  agreement: { alpha: Estimate | null; replies: number };
}

/** What a person gave a reply. */
export interface Thumb {
  who: string;
  up: boolean;
  note: string;
}

export interface Row {
  index: number;
  rate: number;
  max_activation: number;
  label: string | null;
  score: number | null;
  flag: string;
  kind: string;
  promotes: string[];
  top_token: string;
}

export interface Example {
  context: number;
  peak: number;
  position: number;
  start: number;
  tokens: string[];
  activations: number[];
  document: string;
  kind: string;
  char: number;
}

export interface Bin {
  low: number;
  high: number;
  count: number;
  examples: Example[];
}

export interface Near {
  index: number;
  label: string | null;
  cosine?: number;
  jaccard?: number;
}

export interface Feature {
  id: string;
  index: number;
  rate: Estimate;
  firings: number;
  contexts: number;
  documents: number;
  flag: string;
  max_activation: number;
  label: { text: string; auroc: Estimate; f1: Estimate; precision: number; recall: number; baseline_f1: number | null } | null;
  best_guess: string | null;
  kind: string;
  kinds: Record<string, number>;
  histogram: { edges: number[]; counts: number[] };
  tokens: { token: string; count: number; mean_activation: number }[];
  positions: { edges: number[]; counts: number[]; tokens: number[] };
  promotes: { token: string; logit: number }[];
  suppresses: { token: string; logit: number }[];
  measured: { token: string; change: number }[] | null;
  measured_loss: number | null;
  near_decoder: Near[];
  near_cofiring: Near[];
  examples: { top: Example[]; bins: Bin[] };
}

export interface Context {
  tokens: string[];
  document: string;
  kind: string;
  char: number;
}

export interface Brief {
  label: string | null;
  flag: string;
  max_activation: number;
  rate: number;
}

export interface TriedToken {
  text: string;
  special: boolean;
  error: number;
  active: number;
  features: { index: number; activation: number }[];
}

export interface Tried {
  name: string;
  site: string;
  model: string;
  tokens: TriedToken[];
  features: Record<string, Brief>;
}

export interface Strength {
  index: number;
  how: "set" | "add";
  amount: number;
}

export interface BothUnits extends Strength {
  times_max: number | null;
  times_norm: number;
}

export type SteerEvent =
  | { event: "begin"; kind: "completion" | "embedding"; chat: boolean; model: string; site: string; strengths: BothUnits[]; chats: Record<"plain" | "steered", string> | null }
  | { event: "text"; side: "plain" | "steered"; text: string }
  | { event: "stop"; side: "plain" | "steered"; why: string; tokens: number }
  | { event: "embedding"; site: string; cosine: number; moved: number }
  | { event: "error"; error: string }
  | { event: "end" };

export interface Dose {
  strength: { times_max: number | null; times_norm: number };
  feature: Record<string, Estimate>;
  random: Record<string, Estimate>;
}

export interface Measured {
  how: "add" | "set";
  own_tokens: { token: number; text: string }[];
  draws: number;
  documents: number;
  text: string;
  doses: Dose[];
}

export type DoseEvent =
  | { event: "progress"; share: number }
  | { event: "dose"; dose: Measured }
  | { event: "error"; error: string }
  | { event: "end" };

export interface Report {
  name: string;
  finished: boolean;
  created?: string;
  config: Record<string, unknown>;
  report: Record<string, unknown> | null;
  metrics: Metrics;
}

const ROOT = "/api/v1";

async function failure(response: Response): Promise<Error> {
  const body: unknown = await response.json().catch(() => null);
  const line = typeof body === "object" && body !== null && "error" in body ? String(body.error) : response.statusText;
  return new Error(line);
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await fetch(ROOT + path, { signal: signal ?? null });
  if (!response.ok) throw await failure(response);
  return (await response.json()) as T;
}

function token(): string {
  return document.querySelector<HTMLMetaElement>("meta[name=glasshouse-token]")?.content ?? "";
}

async function send(path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
  const response = await fetch(ROOT + path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-glasshouse-token": token() },
    body: JSON.stringify(body),
    signal: signal ?? null,
  });
  if (!response.ok) throw await failure(response);
  return response;
}

export async function post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  return (await (await send(path, body, signal)).json()) as T;
}

/** The lines of a streamed answer, each as it comes. */
export async function* stream<T>(path: string, body: unknown, signal: AbortSignal): AsyncGenerator<T> {
  const response = await send(path, body, signal);
  if (response.body === null) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line !== "") yield JSON.parse(line) as T;
  }
}

export const isAbort = (error: unknown): boolean => error instanceof DOMException && error.name === "AbortError";

export const message = (error: unknown): string => (error instanceof Error ? error.message : String(error));

export interface Detector {
  units: number[];
  thresholds: number[];
  precision: Estimate;
  recall: Estimate;
  f1: Estimate;
}

export interface Concept {
  concept: string;
  positions: number;
  best: Detector;
  several: Detector;
  split: boolean;
  absorbed_by: string[];
  probe: Estimate;
}

export interface Share {
  concepts?: number;
  mean_f1: number;
  found: Estimate;
}

export interface Concepts {
  dictionary: string;
  text: string;
  positions: number;
  documents: number;
  rows: Record<string, { best: Record<string, Share>; several: Record<string, Share> } | Share>;
  concepts: Concept[];
}
