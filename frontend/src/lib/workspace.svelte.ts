// What the workspace holds and what is being done in it, asked again while something is.

import { get, message, type Contents, type Status, type Summary } from "./api";

const BUSY_MS = 2000;
const IDLE_MS = 10000;

class Workspace {
  contents = $state<Contents | null>(null);
  status = $state<Status | null>(null);
  error = $state("");
  beat = $state(0); // grows with every answer, for views that read more

  async refresh(): Promise<void> {
    const answers = await Promise.allSettled([get<Status>("/status"), get<Contents>("/workspace")]);
    const [status, contents] = answers; // one that fails does not take the other with it
    if (status.status === "fulfilled") this.status = status.value;
    if (contents.status === "fulfilled" && JSON.stringify(contents.value) !== JSON.stringify(this.contents))
      this.contents = contents.value;
    const failed = answers.find((one) => one.status === "rejected");
    this.error = failed ? `the server does not answer: ${message(failed.reason)}` : "";
    this.beat += 1;
  }

  /** Poll for ever; the page is what is polled for. */
  async watch(): Promise<never> {
    for (;;) {
      if (!document.hidden) await this.refresh();
      const idle = this.status !== null && !this.status.busy && (this.contents?.features.length ?? 0) > 0;
      await new Promise((wake) => setTimeout(wake, idle && this.error === "" ? IDLE_MS : BUSY_MS));
    }
  }

  summary(name: string): Summary | undefined {
    return this.contents?.features.find((one) => one.name === name);
  }
}

export const workspace = new Workspace();
