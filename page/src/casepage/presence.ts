import * as api from "../api";
import { idleSeconds } from "../idle";

const BEAT_S = 15;
/** Somebody who touched nothing for this long is taken not to be working on the case. */
const IDLE_S = 60;

/** Tells the server every 15 s that somebody is here, and how long they worked; hears who else is. */
export class Presence {
  private seconds = 0;
  private readonly ticking: ReturnType<typeof setInterval>[];

  constructor(
    private readonly key: string,
    private readonly heard: (answer: { present: api.Present[]; revision: number }) => void,
  ) {
    addEventListener("pagehide", this.goodbye);
    this.ticking = [setInterval(() => this.tick(), 1000), setInterval(() => void this.beat(), BEAT_S * 1000)];
    void this.beat();
  }

  close(): void {
    this.ticking.forEach(clearInterval);
    removeEventListener("pagehide", this.goodbye);
    this.goodbye();
  }

  private readonly goodbye = () => {
    api.leave(this.key).catch(() => undefined);
  };

  private tick(): void {
    const working = document.visibilityState === "visible" && idleSeconds() < IDLE_S;
    if (working) this.seconds++;
  }

  private async beat(): Promise<void> {
    const { seconds } = this;
    this.seconds = 0;
    try {
      this.heard(await api.beat(this.key, seconds));
    } catch {
      this.seconds += seconds;
    }
  }
}
