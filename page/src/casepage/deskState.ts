/** What the case page shows of an opened case. */

import type { CaseDetail, Present, SessionPerson } from "../api";
import type { Layout, Measurement, Style, Triple, WindowLevel } from "../contract";
import type { ProposalMethod, ProposalState } from "../editing/proposals";
import { emptyQueue, type Queue } from "../editing/queue";
import type { DrawingSettings } from "../editing/workplace";
import type { Progress, Viewer } from "../viewer";
import type { ToolName } from "./choices";
import type { Counts } from "./volumes";

export interface Notice {
  id: number;
  tone: "" | "warn" | "bad" | "good";
  text: string;
}

export interface DeskState {
  detail: CaseDetail;
  active: number | null;
  style: Style;
  layout: Layout;
  tool: ToolName;
  drawing: DrawingSettings;
  window: WindowLevel;
  at: Triple;
  queue: Queue;
  present: readonly Present[];
  /** Voxels of each structure as they are now; null until all labels have arrived. */
  voxels: Counts | null;
  proposal: ProposalState;
  method: ProposalMethod;
  progress: Progress;
  measurements: readonly Measurement[];
  notices: readonly Notice[];
  /** Read out by screen readers. */
  said: string;
  firstPictureMs: number | null;
}

export function startOf(detail: CaseDetail, view: Viewer): DeskState {
  const colours = new Map(detail.structures.map(({ value, colour }) => [value, colour] as const));
  const { lower, upper } = view.window();
  return {
    detail: asEditable(detail),
    active: detail.structures[0]?.value ?? null,
    style: { opacity: 0.45, contour: false, hidden: new Set(), colours, shown: "labels", crosshair: true },
    layout: "four",
    tool: "look",
    drawing: { radiusMm: 5, shape: "disc", over: "background", erases: "active", limits: { lower, upper } },
    window: { lower, upper },
    at: view.crosshair,
    queue: emptyQueue(detail),
    present: detail.present,
    voxels: null,
    proposal: { step: "none" },
    method: "auto",
    progress: { share: 0, problem: null },
    measurements: [],
    notices: [],
    said: "",
    firstPictureMs: null,
  };
}

export function isDecided({ state }: Pick<CaseDetail, "state">): boolean {
  return state === "approved" || state === "approved_with_edits" || state === "rejected";
}

/** The server says whether this person may edit; a decided case must be reopened first. */
export function asEditable(detail: CaseDetail): CaseDetail {
  return { ...detail, editable: detail.editable && !isDecided(detail) };
}

/** Why a case that may not be changed may not. */
export function notEditable(detail: CaseDetail, person: SessionPerson): string {
  if (person.role === "viewer") return "You may look at this case, but not change it.";
  return isDecided(detail) ? "This case is decided. Reopen it to change it." : "This case cannot be changed now.";
}
