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
    try {
      const [status, contents] = await Promise.all([get<Status>("/status"), get<Contents>("/workspace")]);
      this.status = status;
      if (JSON.stringify(contents) !== JSON.stringify(this.contents)) this.contents = contents;
      this.error = "";
    } catch (error) {
      this.error = `the server does not answer: ${message(error)}`;
    }
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
