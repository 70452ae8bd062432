/** Words and numbers as people read them. */

import type { Role, State } from "../api";

export const STATES: readonly State[] = [
  "unreviewed",
  "in_review",
  "escalated",
  "awaiting_second",
  "approved",
  "approved_with_edits",
  "rejected",
];

const STATE_NAMES: Record<State, string> = {
  unreviewed: "Unreviewed",
  in_review: "In review",
  escalated: "Escalated",
  awaiting_second: "Awaiting second reader",
  approved: "Approved",
  approved_with_edits: "Approved with edits",
  rejected: "Rejected",
};

export function stateName(state: State): string {
  return STATE_NAMES[state];
}

/** The class of a state's chip; the chip's text says the same. */
export function stateTone(state: State): "" | "warn" | "bad" | "good" | "accent" {
  if (state === "approved" || state === "approved_with_edits") return "good";
  if (state === "rejected") return "bad";
  if (state === "escalated") return "warn";
  return state === "unreviewed" ? "" : "accent";
}

export function roleName(role: Role): string {
  return { viewer: "Viewer", reviewer: "Reviewer", admin: "Administrator" }[role];
}

/** "0.4 ml", "12.3 ml", "1,530 ml": three figures where they mean something. */
export function volume(millilitres: number): string {
  const digits = millilitres >= 100 ? 0 : millilitres >= 1 ? 1 : 2;
  return joined(decimal(millilitres, digits), "ml");
}

/** "–" for none, "45 s", "3 min 20 s", "1 h 05 min". */
export function duration(seconds: number | null): string {
  if (seconds === null) return "–";
  const whole = Math.round(seconds);
  if (whole < 60) return joined(whole, "s");
  if (whole < 3600) return joined(Math.floor(whole / 60), "min", String(whole % 60).padStart(2, "0"), "s");
  const minutes = Math.round(whole / 60);
  return joined(Math.floor(minutes / 60), "h", String(minutes % 60).padStart(2, "0"), "min");
}

/** Numbers and units that no line end may part. */
function joined(...parts: (string | number)[]): string {
  return parts.join("\u00a0");
}

export function decimal(value: number | null, digits: number): string {
  if (value === null) return "–";
  return value.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function percent(value: number | null): string {
  return value === null ? "–" : joined(decimal(100 * value, 0), "%");
}

export function count(value: number): string {
  return value.toLocaleString("en-GB");
}

/** "1 case", "2 cases". */
export function counted(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** A DICOM date (20240131) or an ISO date as "2024-01-31"; anything else as it is. */
export function day(date: string): string {
  const parts = /^(\d{4})-?(\d{2})-?(\d{2})/.exec(date);
  return parts ? `${parts[1]}-${parts[2]}-${parts[3]}` : date;
}

/** An ISO time in UTC as local "2024-01-31 14:05:09". */
export function moment(made: string): string {
  const zoned = /(Z|[+-]\d{2}:?\d{2})$/.test(made) ? made : `${made}Z`;
  const at = new Date(zoned);
  if (Number.isNaN(at.getTime())) return made;
  const two = (value: number) => String(value).padStart(2, "0");
  const date = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${date} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** A name as DICOM writes it, "Doe^Jane^M", as "Doe, Jane M". */
export function personName(name: string): string {
  const [family = "", ...others] = (name.split("=")[0] ?? "").split("^");
  const rest = others.filter((part) => part.trim() !== "").join(" ");
  return rest === "" ? family : `${family}, ${rest}`;
}

/** A structure's name as people say it, "left_kidney" as "left kidney". */
export function structureName(name: string): string {
  return name.replaceAll("_", " ");
}

/** What the server says of structures, with their names as people say them. */
export function withPlainNames(text: string, structures: readonly { name: string }[]): string {
  const names = structures.map(({ name }) => name).sort((one, other) => other.length - one.length);
  return names.reduce((said, name) => said.replaceAll(name, structureName(name)), text);
}

/** "first_second" as "First second". */
export function plain(name: string): string {
  const words = structureName(name);
  return words.slice(0, 1).toUpperCase() + words.slice(1);
}
