/** The worklist's filters and order as part of the address, so that a reload or a link shows the same. */

import type { State, WorklistQuery } from "../../api";
import { STATES } from "../words";

export const PAGE_SIZE = 50;

/** What the worklist can be ordered by, and which way first. */
export const ORDERS: Readonly<Record<string, "up" | "down">> = {
  priority: "down",
  pseudonym: "up",
  state: "up",
  reader: "up",
  model: "up",
  site: "up",
  date: "down",
  seconds: "down",
};

const TEXTS = ["structure", "model", "site", "reader", "search"] as const;

export const EVERYTHING: WorklistQuery = {
  states: [],
  structure: "",
  model: "",
  site: "",
  reader: "",
  search: "",
  order: "-priority",
  offset: 0,
  limit: PAGE_SIZE,
};

/** The query of an address; what is not understood counts as not asked for. */
export function queryOf(address: string): WorklistQuery {
  const asked = new URLSearchParams(address);
  const states = STATES.filter((state) => asked.getAll("state").includes(state));
  const texts = Object.fromEntries(TEXTS.map((name) => [name, asked.get(name) ?? ""]));
  const order = asked.get("order") ?? "";
  const page = Math.floor(Number(asked.get("page") ?? "1"));
  return {
    ...EVERYTHING,
    ...texts,
    states,
    order: order.replace(/^-/, "") in ORDERS ? order : EVERYTHING.order,
    offset: page >= 1 && page <= 1e6 ? (page - 1) * PAGE_SIZE : 0,
  };
}

/** The address of a query, without what is as always. */
export function addressOf(query: WorklistQuery): string {
  const address = new URLSearchParams();
  for (const state of query.states) address.append("state", state);
  for (const name of TEXTS) if (query[name] !== "") address.set(name, query[name]);
  if (query.order !== EVERYTHING.order) address.set("order", query.order);
  if (query.offset > 0) address.set("page", String(Math.floor(query.offset / PAGE_SIZE) + 1));
  return address.toString();
}

/** A change of what is listed starts at its first page. */
export function changed(query: WorklistQuery, change: Partial<WorklistQuery>): WorklistQuery {
  return { ...query, offset: 0, ...change };
}

export function isFiltered(query: WorklistQuery): boolean {
  return query.states.length > 0 || TEXTS.some((name) => query[name] !== "");
}

/** The order after a click on a column: its first way, and the other at the second click. */
export function orderedBy(order: string, column: string): string {
  const first = ORDERS[column] === "down" ? `-${column}` : column;
  if (order.replace(/^-/, "") !== column) return first;
  return order.startsWith("-") ? column : `-${column}`;
}

/** How a column is sorted, in the words of aria-sort. */
export function sortOf(order: string, column: string): "ascending" | "descending" | "none" {
  if (order.replace(/^-/, "") !== column) return "none";
  return order.startsWith("-") ? "descending" : "ascending";
}

/** One state more or less among those that are listed. */
export function toggled(states: readonly State[], state: State): State[] {
  return STATES.filter((each) => (each === state) !== states.includes(each));
}
