/** A proposed mask: asked for as prompts come in, shown, taken or dropped. */

import type { Geometry, Overlay, Plane, Runs } from "../contract";
import { promptOverlay } from "./promptTool";
import { NO_PROMPTS, anyPrompts, type Prompts } from "./prompts";
import type { Point } from "./lasso";
import { dashes, maskOf, sliceOutline, type Mask } from "./outline";
import { changedVoxels, isEmpty, repaint } from "./runs";
import type { ActiveStructure, FinishedChange } from "./workplace";

export type ProposalMethod = "auto" | "geodesic" | "random_walker" | "model";

export interface ProposalAnswer {
  runs: Runs;
  seconds: number;
  method: string;
}

export type ProposalState =
  | { step: "none" }
  | { step: "asking" }
  | { step: "shown"; voxels: number; seconds: number; method: string }
  | { step: "failed"; text: string };

export interface ProposalHost {
  geometry: Geometry;
  active(): ActiveStructure | null;
  data(layer: number): ArrayLike<number>;
  /** Asks the server, on its newest labels. Rejects with an AbortError when it is no longer wanted. */
  ask(prompts: Prompts, active: ActiveStructure, method: ProposalMethod, signal: AbortSignal): Promise<ProposalAnswer>;
  /** Applies and stores an accepted change. */
  accept(change: FinishedChange): void;
  onState(state: ProposalState): void;
  redraw(): void;
  say(text: string): void;
}

interface Shown {
  mask: Mask | null;
  /** Outlines of slices that were shown, by plane and number. */
  outlines: Map<string, Point[][]>;
  runs: Runs;
  active: ActiveStructure;
  method: string;
}

export class Proposals {
  private given: Prompts = NO_PROMPTS;
  private shown: Shown | null = null;
  private asked: { active: ActiveStructure; abort: AbortController } | null = null;
  private bright = true;
  method: ProposalMethod = "auto";

  constructor(private readonly host: ProposalHost) {}

  prompts(): Prompts {
    return this.given;
  }

  get open(): boolean {
    return anyPrompts(this.given);
  }

  /** Takes new prompts and asks; an answer to older ones is not waited for. */
  prompt(prompts: Prompts): void {
    const active = this.host.active();
    if (!active) return;
    const before = this.shown?.active ?? this.asked?.active;
    if (before && before.structure !== active.structure) this.shown = null;
    this.given = prompts;
    void this.request(active);
  }

  /** Takes back the newest prompt. */
  takeBack(): void {
    const { points, box, scribbles } = this.given;
    if (scribbles.length > 0) this.given = { ...this.given, scribbles: scribbles.slice(0, -1) };
    else if (points.length > 0) this.given = { ...this.given, points: points.slice(0, -1) };
    else if (box) this.given = { ...this.given, box: null };
    const active = this.host.active();
    if (this.open && active) void this.request(active);
    else this.drop();
  }

  accept(): boolean {
    const shown = this.shown;
    if (!shown || this.asked) return false;
    const { points, box, scribbles } = this.given;
    const runs = repaint(shown.runs, this.host.data(shown.active.layer));
    const counts = { points: points.length, box, scribbles: scribbles.length };
    const parameters = { structure: shown.active.structure, method: shown.method, ...counts };
    this.clear();
    if (!isEmpty(runs)) this.host.accept({ layer: shown.active.layer, tool: "prompt", parameters, runs });
    this.host.say(`Proposal accepted: ${changedVoxels(runs)} voxels changed.`);
    return true;
  }

  drop(): boolean {
    const had = this.open;
    this.clear();
    if (had) this.host.say("Proposal dropped.");
    return had;
  }

  /** Turns the outline's two colours round, so that it is seen on any ground. */
  blink(): void {
    if (!this.shown) return;
    this.bright = !this.bright;
    this.host.redraw();
  }

  overlay(plane: Plane, slice: number): Overlay | null {
    if (!this.open) return null;
    const overlay = promptOverlay(this.given, this.host.geometry, plane, slice);
    if (!this.shown?.mask) return overlay;
    const key = `${plane} ${slice}`;
    const loops = this.shown.outlines.get(key) ?? sliceOutline(this.shown.mask, overlay.axes, slice);
    this.shown.outlines.set(key, loops);
    const [below, above] = this.bright ? ["#000000", "#ffffff"] : ["#ffffff", "#000000"];
    for (const points of loops) overlay.lines.push({ points, closed: true, colour: below, width: 2 });
    for (const points of dashes(loops, 3)) overlay.lines.push({ points, closed: false, colour: above, width: 2 });
    return overlay;
  }

  private async request(active: ActiveStructure): Promise<void> {
    this.asked?.abort.abort();
    const asked = { active, abort: new AbortController() };
    this.asked = asked;
    this.host.onState({ step: "asking" });
    this.host.redraw();
    try {
      const answer = await this.host.ask(this.given, active, this.method, asked.abort.signal);
      if (this.asked !== asked) return;
      this.asked = null;
      this.show(answer, active);
    } catch (problem) {
      if (this.asked !== asked) return;
      this.asked = null;
      const text = problem instanceof Error ? problem.message : String(problem);
      this.host.onState({ step: "failed", text });
      this.host.say(text);
    }
    this.host.redraw();
  }

  private show({ runs, seconds, method }: ProposalAnswer, active: ActiveStructure): void {
    const voxels = changedVoxels(runs);
    this.shown = { mask: maskOf(runs, this.host.geometry.shape), outlines: new Map(), runs, active, method };
    this.host.onState({ step: "shown", voxels, seconds, method });
    const what = voxels === 0 ? "The proposal changes nothing" : `Proposal of ${voxels} voxels`;
    this.host.say(`${what}. Enter accepts, Escape drops, further clicks refine.`);
  }

  private clear(): void {
    this.asked?.abort.abort();
    this.asked = null;
    this.shown = null;
    this.given = NO_PROMPTS;
    this.host.onState({ step: "none" });
    this.host.redraw();
  }
}
