export type { CaseSource, KeyHelp, LabelKind, LabelSlabOf, MeasureKind, Progress, Viewer } from "./source";
