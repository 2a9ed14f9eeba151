// Numbers and tokens as people read them.
import type { Axis } from "./api";

const integer = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (n: number): string => integer.format(n);

/** Three significant digits, no exponent between a thousandth and a million. */
export function short(x: number | null | undefined): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e6 || size < 1e-3) return x.toExponential(1).replace("-", "−");
  return (size >= 1000 ? integer.format(x) : String(Number(x.toPrecision(3)))).replace("-", "−");
}

/** A share of one as a percentage: 12.3%, 0.034%. */
export function percent(x: number | null | undefined): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  const hundred = x * 100;
  if (hundred === 0) return "0%";
  if (Math.abs(hundred) < 0.001) return `${hundred.toExponential(1).replace("-", "−")}%`;
  return `${String(Number(hundred.toPrecision(hundred >= 99 && hundred < 100 ? 4 : 3))).replace("-", "−")}%`;
}

/** A score in its behaviour's unit: rates as percentages, to a tenth. */
export function inUnit(value: number | null, unit: string, signed = false): string {
  if (value === null) return "–";
  const scaled = unit === "rate" ? `${short(Number((value * 100).toFixed(1)))}%` : short(value);
  return signed && value > 0 ? `+${scaled}` : scaled;
}

/** An axis of the plane: what it measures, in what, and which way is good. */
export function axisTitle(axis: Axis): string {
  const unit = axis.unit === "rate" ? "" : `, ${axis.unit}`;
  return `${axis.measure === "not" ? "1 − " : ""}${axis.behaviour}${unit} (${axis.good === "up" ? "more" : "less"} is better)`;
}

export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export interface Piece {
  text: string;
  mark: boolean;
}

const MARKS: Record<string, string> = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍" };
// C0 and C1 controls, zero-width and bidirectional characters: drawn as their code, so that none acts or hides.
const INERT = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb]/;
const SPECIAL = new RegExp(`[ ␣⏎↵⇥]|${INERT.source}`, "g");

function mark(character: string): string {
  if (character === "⏎") return "↵";
  if (character in MARKS) return MARKS[character] ?? "";
  if (!INERT.test(character)) return character;
  return `‹${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(2, "0")}›`;
}

/** A token cut into plain text and marks for what would not be seen. `loose` leaves spaces as they are. */
export function pieces(token: string, loose = false): Piece[] {
  const out: Piece[] = [];
  let from = 0;
  for (const match of token.matchAll(SPECIAL)) {
    if (loose && match[0] === " ") continue;
    if (match.index > from) out.push({ text: token.slice(from, match.index), mark: false });
    out.push({ text: mark(match[0]), mark: true });
    from = match.index + match[0].length;
  }
  if (from < token.length) out.push({ text: token.slice(from), mark: false });
  return out;
}

/** Text of a model or corpus in running form: line breaks stay, controls are drawn inert. */
export function inert(text: string): string {
  return text.replace(new RegExp(INERT.source, "g"), (c) => (c === "\n" || c === "\t" ? c : mark(c)));
}

const STATES: Record<string, string> = {
  running: "being done",
  done: "done",
  failed: "failed",
  stopped: "stopped; the same command goes on",
  killed: "killed; the same command goes on",
};
export const stateWord = (state: string): string => STATES[state] ?? state;
