/** Which page the address asks for: `#/`, `#/case/KEY`, `#/dashboard`, `#/people`, `#/audit`. */

export type Route =
  | { page: "worklist"; query: string }
  | { page: "case"; key: string }
  | { page: "dashboard" }
  | { page: "people" }
  | { page: "audit" }
  | { page: "unknown"; address: string };

/** The route of a location's hash. The worklist keeps its filters there: `#/?state=escalated`. */
export function routeOf(hash: string): Route {
  const address = hash.replace(/^#/, "");
  const [path = "", query = ""] = address.split("?", 2);
  if (path === "" || path === "/") return { page: "worklist", query };
  if (path === "/dashboard" || path === "/people" || path === "/audit") {
    return { page: path.slice(1) as "dashboard" | "people" | "audit" };
  }
  if (path.startsWith("/case/") && path.length > "/case/".length) {
    const key = decoded(path.slice("/case/".length));
    if (key !== null) return { page: "case", key };
  }
  return { page: "unknown", address };
}

export function caseAddress(key: string): string {
  return `#/case/${encodeURIComponent(key)}`;
}

export function worklistAddress(query = ""): string {
  return query === "" ? "#/" : `#/?${query}`;
}

function decoded(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
