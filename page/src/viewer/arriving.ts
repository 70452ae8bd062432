/** Brings a case's voxels into the browser, and says how far it is. */

import type { LabelStore } from "../contract";
import { labelSet } from "./labelsets";
import { Listeners } from "./listeners";
import { load } from "./loading";
import { Scene, type LabelSets } from "./scene";
import type { CaseSource, LabelKind, Progress } from "./source";

export interface Told {
  /** Slices k that changed, of the scan or of any labels. */
  changed(what: "scan" | "labels", first: number, last: number): void;
  failed(problem: string): void;
}

export class Arrival {
  readonly scene: Scene;
  readonly #sets: LabelSets;
  readonly #progressed = new Listeners<[Progress]>();
  readonly #complete = new Listeners<[]>();
  readonly #followed = new Set<LabelStore>();
  #imageLoading: Promise<void> | null = null;
  #problem: string | null = null;

  constructor(
    source: CaseSource,
    readonly signal: AbortSignal,
    readonly told: Told,
  ) {
    const loading = {
      focus: () => this.#focus(),
      signal,
      arrived: (kind: LabelKind, first: number, last: number) => this.#labelsArrived(kind, first, last),
      failed: (problem: unknown) => this.#failed(problem),
    };
    this.#sets = {
      labels: labelSet(source, "labels", loading),
      reference: labelSet(source, "reference", loading),
      model: labelSet(source, "model", loading),
    };
    this.scene = new Scene(source, this.#sets);
  }

  /** The slice k that is looked at. */
  #focus(): number {
    return this.scene.crosshair[2];
  }

  /** Fetches what has not arrived, of the scan, the edited labels, and what else is shown. */
  start(): void {
    this.#problem = null;
    void this.#sets.labels.start();
    for (const store of this.#sets.labels.layers.values()) {
      // A second start keeps the stores.
      if (this.#followed.has(store)) continue;
      this.#followed.add(store);
      store.onChange((first, last) => this.told.changed("labels", first, last));
    }
    this.fetchShown();
    this.#imageLoading ??= this.#loadImage()
      .catch((problem: unknown) => this.#failed(problem))
      .finally(() => (this.#imageLoading = null));
  }

  #loadImage(): Promise<void> {
    const { source, image } = this.scene;
    return load({
      store: image,
      sliceBytes: source.geometry.shape[0] * source.geometry.shape[1] * 2,
      parallel: 2,
      focus: () => this.#focus(),
      signal: this.signal,
      fetch: ({ from, to }, signal) => source.imageSlab(from, to, signal),
      arrived: ({ from, to }) => {
        this.told.changed("scan", from, to - 1);
        this.#tellProgress();
      },
    });
  }

  /** What is shown besides the edited labels is fetched when it is asked for. */
  fetchShown(): void {
    const { style, compared, sideBySide, source } = this.scene;
    const wanted = new Set<LabelKind>();
    if (style.shown === "reference" || style.shown === "model") wanted.add(style.shown);
    if (style.shown === "difference" || sideBySide) wanted.add(compared);
    for (const kind of wanted) {
      if (kind === "reference" ? source.hasReference : source.hasModel) void this.#sets[kind].start();
    }
  }

  #labelsArrived(kind: LabelKind, first: number, last: number): void {
    // The edited labels' own stores tell it themselves.
    if (kind !== "labels") this.told.changed("labels", first, last);
    this.#tellProgress();
  }

  #failed(problem: unknown): void {
    if (this.signal.aborted) return;
    this.#problem = problem instanceof Error ? problem.message : String(problem);
    this.told.failed(this.#problem);
    this.#tellProgress();
  }

  progress(): Progress {
    const image = this.scene.image.loaded;
    const share = image.filter(Boolean).length / image.length;
    return { share: (share + this.#sets.labels.share()) / 2, problem: this.#problem };
  }

  #tellProgress(): void {
    const progress = this.progress();
    this.#progressed.tell(progress);
    if (progress.share >= 1) this.#complete.tell();
  }

  onProgress(listener: (progress: Progress) => void): () => void {
    listener(this.progress());
    return this.#progressed.add(listener);
  }

  complete(): Promise<void> {
    return new Promise((resolve) => {
      if (this.progress().share >= 1) resolve();
      else this.#complete.add(resolve);
    });
  }
}
