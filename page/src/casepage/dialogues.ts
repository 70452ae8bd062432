/** Dialogues of the case page. */
export type DialogueName = "decide" | "export" | "upload" | "second" | "reopen" | "help";

export interface OpenDialogue {
  name: DialogueName;
  /** What to decide about; null: the whole case. */
  structure: number | null;
}
