/** One opened case: its pictures, its tools, what waits to be saved, and what the page shows of all that. */

import * as api from "../api";
import type { CaseDetail, CaseStructure, Present, SessionPerson } from "../api";
import { counted } from "../app/words";
import type { Layout, Plane, Runs, Style, Triple, WindowLevel } from "../contract";
import { nextRadius } from "../editing/brush";
import type { Journal } from "../editing/journal";
import { Proposals, type ProposalMethod } from "../editing/proposals";
import { emptyQueue, type Queue } from "../editing/queue";
import { seenDigest } from "../editing/seen";
import { Sender } from "../editing/sender";
import {
  joinOverlays,
  type ActiveStructure,
  type DrawingSettings,
  type DrawingTool,
  type FinishedChange,
  type Workplace,
} from "../editing/workplace";
import type { Viewer } from "../viewer";
import type { ToolName } from "./choices";
import { asEditable, notEditable, startOf, type DeskState, type Notice } from "./deskState";
import { Presence } from "./presence";
import { askProposal, caseServer, failureOf, mergedText } from "./saving";
import { Store } from "./store";
import { drawingTools } from "./tools";
import { StructureVolumes } from "./volumes";

const SURFACES_AFTER_MS = 3000;
/** Messages that ask for nothing go away by themselves. */
const READ_MS = 20_000;
const CLOSING_MS = 10_000;

export class CaseDesk {
  readonly store: Store<DeskState>;
  readonly sender: Sender;
  readonly proposals: Proposals;
  readonly key: string;
  private readonly host: HTMLElement;
  private readonly journal: Journal;
  private readonly drawing: ReadonlyMap<ToolName, DrawingTool>;
  private readonly presence: Presence;
  private readonly blinking: ReturnType<typeof setInterval>;
  private surfaces: ReturnType<typeof setTimeout> | null = null;
  private readonly changed = new Set<number>();
  private readonly volumes: StructureVolumes;
  private notices = 0;

  constructor(
    readonly view: Viewer,
    readonly person: SessionPerson,
    readonly local: boolean,
    options: { detail: CaseDetail; journal: Journal; host: HTMLElement },
  ) {
    const { detail, journal } = options;
    this.journal = journal;
    this.host = options.host;
    this.key = detail.key;
    this.store = new Store(startOf(detail, view));
    this.sender = new Sender(emptyQueue(detail), {
      me: person.name,
      server: caseServer(detail.key),
      journal,
      canvas: { data: (layer) => this.labels(layer).data, apply: (layer, runs) => this.apply(layer, runs) },
      failureOf,
      ready: view.loaded(),
      beforeChange: () => this.tool()?.cut(),
      onQueue: (queue) => this.onQueue(queue),
      onMerged: (merged) => {
        const text = mergedText(merged, person.name);
        if (text) this.notice(text, merged.contested > 0 ? "warn" : "");
      },
      onNote: (text) => this.notice(text, "warn"),
      onLeft: (strokes) => this.notice(`Putting back ${counted(strokes, "stroke")} that an earlier visit left unsaved.`),
    });
    this.proposals = new Proposals({
      geometry: detail.geometry,
      active: () => this.active(),
      data: (layer) => this.labels(layer).data,
      ask: (...asked) => askProposal(this.key, this.sender, ...asked),
      accept: (change) => {
        this.tool()?.cut();
        this.labels(change.layer).apply(change.runs);
        this.commit(change);
      },
      onState: (proposal) => this.store.set({ proposal }),
      redraw: () => view.redraw(),
      say: (text) => this.say(text),
    });
    this.volumes = new StructureVolumes(view.layers, (voxels) => this.store.set({ voxels }));
    this.drawing = this.makeTools();
    this.presence = new Presence(detail.key, (heard) => this.hear(heard));
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.blinking = setInterval(() => still || this.proposals.blink(), 500);
    this.follow();
    this.choose(this.store.get().active);
    this.select("look");
  }

  close(): void {
    this.tool()?.cancel();
    removeEventListener("pagehide", this.hidden);
    document.removeEventListener("visibilitychange", this.hidden);
    clearInterval(this.blinking);
    this.presence.close();
    // The last strokes are on their way still; those that cannot arrive are kept for the next visit.
    const patience = new Promise((done) => setTimeout(done, CLOSING_MS));
    void Promise.race([this.sender.settled(), patience]).then(() => {
      this.sender.close();
      this.journal.close();
      if (this.surfaces) clearTimeout(this.surfaces);
      this.view.dispose();
    });
  }

  // What is said

  say(text: string): void {
    this.store.set({ said: text });
  }

  notice(text: string, tone: Notice["tone"] = ""): void {
    const { notices } = this.store.get();
    if (notices.some((shown) => shown.text === text)) return;
    const id = ++this.notices;
    this.store.set({ notices: [...notices.slice(-3), { id, tone, text }] });
    if (tone !== "warn" && tone !== "bad") setTimeout(() => this.dismiss(id), READ_MS);
  }

  dismiss(id: number): void {
    this.store.set({ notices: this.store.get().notices.filter((notice) => notice.id !== id) });
  }

  // Structures and looks

  structure(value: number): CaseStructure | undefined {
    return this.store.get().detail.structures.find((structure) => structure.value === value);
  }

  choose(value: number | null): void {
    this.store.set({ active: value });
    if (value === null) return;
    this.view.setActiveLayer(this.layerOf(value));
    this.say(`Active structure: ${this.structure(value)?.name ?? value}`);
  }

  setStyle(change: Partial<Style>): void {
    this.store.set({ style: { ...this.store.get().style, ...change } });
    this.view.setStyle(change);
  }

  toggleHidden(value: number): void {
    const hidden = new Set(this.store.get().style.hidden);
    if (!hidden.delete(value)) hidden.add(value);
    this.setStyle({ hidden });
  }

  setLayout(layout: Layout): void {
    this.store.set({ layout });
    this.view.setLayout(layout);
  }

  setWindow(window: WindowLevel): void {
    this.view.setWindow(window);
  }

  jump(index: Triple): void {
    this.view.setCrosshair(index);
    this.view.centreOnCrosshair();
  }

  /** Gives the keyboard to a picture. */
  turnTo(plane: Plane): void {
    this.view.setActivePlane(plane);
    this.picture(plane)?.focus();
  }

  /** Hands a key to the active picture, which then has the focus. True where it used it. */
  passToPicture({ key, shiftKey }: KeyboardEvent): boolean {
    const picture = this.picture(this.view.activePlane());
    if (!picture || picture === document.activeElement) return false;
    picture.focus();
    return !picture.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey, cancelable: true }));
  }

  private picture(plane: Plane): HTMLElement | null {
    return this.host.querySelector<HTMLElement>(`[data-plane="${plane}"]:not([hidden]) .viewer-top`);
  }

  // Tools

  tool(): DrawingTool | undefined {
    return this.drawing.get(this.store.get().tool);
  }

  /** Why nothing may be drawn; null where it may. */
  whyNot(): string | null {
    const { detail, active, style } = this.store.get();
    if (!detail.editable) return notEditable(detail, this.person);
    if (active === null) return "Choose a structure first.";
    if (style.shown !== "labels") return "Show the labels to change them.";
    return style.hidden.has(active) ? "The active structure is hidden; show it first." : null;
  }

  select(tool: ToolName): void {
    const edits = this.drawing.get(tool);
    const reason = edits ? this.whyNot() : null;
    if (reason) return this.notice(reason, "warn");
    this.tool()?.cancel();
    this.store.set({ tool });
    const chosen = tool === "distance" || tool === "intensity" ? this.view.measureTool(tool) : edits;
    this.view.setTool({
      name: tool,
      cursor: chosen?.cursor ?? "crosshair",
      handle: (pointer) => chosen?.handle(pointer) ?? false,
      overlay: (plane, slice) => joinOverlays(this.proposals.overlay(plane, slice), chosen?.overlay?.(plane, slice)),
    });
  }

  setDrawing(change: Partial<DrawingSettings>): void {
    this.store.set({ drawing: { ...this.store.get().drawing, ...change } });
    this.view.redraw();
  }

  resize(direction: 1 | -1): void {
    const radiusMm = nextRadius(this.store.get().drawing.radiusMm, direction);
    this.setDrawing({ radiusMm });
    this.say(`Brush radius ${radiusMm} mm`);
  }

  setMethod(method: ProposalMethod): void {
    this.proposals.method = method;
    this.store.set({ method });
    if (this.proposals.open) this.proposals.prompt(this.proposals.prompts());
  }

  /** Enter: takes the proposal; where none is open, acts at the crosshair. */
  enter(): void {
    if (this.proposals.accept()) return;
    if (this.proposals.open) this.say("The proposal is still being worked out.");
    else this.act(false);
  }

  /** Acts at the crosshair as a click of the tool does. */
  act(other: boolean): void {
    const { tool } = this.store.get();
    if (tool === "distance" || tool === "intensity") this.view.markMeasurement(tool);
    else if (tool === "look") this.say(this.view.describe(this.view.crosshair));
    else this.tool()?.act(this.view.crosshair, this.view.activePlane(), other);
  }

  /** Leaves off what is half done: a line, a proposal, then the tool. */
  escape(): void {
    if (this.tool()?.cancel() || this.proposals.drop()) return;
    if (this.store.get().tool !== "look") this.select("look");
  }

  /** Has the server change the whole active structure. */
  operate(name: string, parameters: Record<string, unknown>): void {
    const reason = this.whyNot();
    const active = this.active();
    if (reason || !active) return this.notice(reason ?? "Choose a structure first.", "warn");
    this.sender.operate({ name, layer: active.layer, structure: active.structure, parameters });
    this.say("Working…");
  }

  undo(): void {
    this.sender.undo();
  }

  redo(): void {
    this.sender.redo();
  }

  /** The case at the revision that is seen here, with all strokes stored. */
  async head(): Promise<CaseDetail> {
    this.tool()?.cut();
    await this.sender.settled();
    let detail = await api.caseDetail(this.key);
    for (let turn = 0; detail.revision !== this.sender.state.revision && turn < 3; turn++) {
      await this.sender.catchUp(detail.revision);
      detail = await api.caseDetail(this.key);
    }
    this.show(detail);
    return detail;
  }

  /** What is signed: the same, where every voxel that is shown here is the server's. Throws an ApiError where not. */
  async signable(): Promise<CaseDetail> {
    const detail = await this.head();
    await this.view.loaded();
    const { geometry, layers } = this.view;
    if ((await seenDigest({ scan: detail.scan, geometry, layers })) === detail.seen) return detail;
    const remedy = "Load this page again, and look once more before you sign.";
    throw new api.ApiError(0, "What is shown here is not what the server has stored.", remedy);
  }

  private show(answer: CaseDetail): void {
    const detail = asEditable(answer);
    this.store.set({ detail });
    if (detail.editable) return;
    this.proposals.drop();
    if (this.drawing.has(this.store.get().tool)) this.select("look");
  }

  private layerOf(value: number): number {
    return this.store.get().detail.layers.includes(value) ? value : 0;
  }

  private labels(layer: number) {
    return this.view.layers.get(layer) ?? this.view.labels;
  }

  private active(): ActiveStructure | null {
    const { active } = this.store.get();
    const structure = active === null ? undefined : this.structure(active);
    if (!structure || this.whyNot()) return null;
    const layer = this.layerOf(structure.value);
    const colour = `rgb(${structure.colour.join(" ")})`;
    return { structure: structure.value, layer, value: layer === 0 ? structure.value : 1, colour };
  }

  private makeTools(): ReadonlyMap<ToolName, DrawingTool> {
    const { view, store } = this;
    const place: Workplace = {
      geometry: view.geometry,
      image: view.image,
      labels: (layer) => this.labels(layer),
      active: () => this.active(),
      settings: () => store.get().drawing,
      hidden: () => store.get().style.hidden,
      commit: (change) => this.commit(change),
      redraw: () => view.redraw(),
      say: (text) => this.say(text),
    };
    return drawingTools(place, this.proposals);
  }

  private commit(change: FinishedChange): void {
    this.sender.push(change);
    this.counted(change.layer, change.runs);
  }

  private apply(layer: number, runs: Runs): void {
    this.labels(layer).apply(runs);
    this.counted(layer, runs);
  }

  private counted(layer: number, runs: Runs): void {
    for (const value of layer > 0 ? [layer] : [...runs.before, ...runs.after]) if (value > 0) this.changed.add(value);
    this.volumes.changed(layer, runs);
  }

  private onQueue(queue: Queue): void {
    const before = this.store.get().queue;
    this.store.set({ queue });
    if (before.items.length === 0 || queue.items.length > 0) return;
    this.redrawSurfaces();
    // The first edit takes the case into review.
    if (this.store.get().detail.state !== "unreviewed") return;
    api.caseDetail(this.key).then(
      (detail) => this.show(detail),
      () => undefined,
    );
  }

  private redrawSurfaces(): void {
    if (this.surfaces) clearTimeout(this.surfaces);
    this.surfaces = setTimeout(() => {
      this.view.refreshSurfaces([...this.changed]);
      this.changed.clear();
    }, SURFACES_AFTER_MS);
  }

  private hear({ present, revision }: { present: Present[]; revision: number }): void {
    const { queue } = this.store.get();
    this.store.set({ present: present.filter(({ name }) => name !== this.person.name) });
    if (queue.trouble && queue.trouble.kind !== "refused") this.sender.retry();
    void this.sender.catchUp(revision);
    this.takeUpSaved();
  }

  private takeUpSaved(): void {
    this.sender.takeUpSaved().catch((problem: unknown) => this.notice(String(problem), "bad"));
  }

  /** A page that is hidden may never be shown again: what is drawn so far is kept. */
  private readonly hidden = ({ type }: Event) => {
    if (type === "pagehide" || document.visibilityState === "hidden") this.tool()?.cut();
  };

  private follow(): void {
    const { view, store } = this;
    view.onCrosshair((at) => store.set({ at }));
    view.onWindow((window) => store.set({ window }));
    view.onProgress((progress) => store.set({ progress }));
    view.onMeasurements(() => store.set({ measurements: [...view.measurements()] }));
    view.onFirstPicture((firstPictureMs) => store.set({ firstPictureMs }));
    void view.loaded().then(() => this.volumes.count());
    addEventListener("pagehide", this.hidden);
    document.addEventListener("visibilitychange", this.hidden);
    this.takeUpSaved();
  }
}
