/** What an event of the audit trail says, as one line. */

/** "revision 3; structures liver, spleen": names and values of facts, without what is empty. */
export function factsText(facts: unknown): string {
  if (typeof facts !== "object" || facts === null) return facts === null ? "" : String(facts);
  if (Array.isArray(facts)) return facts.map(factsText).join(", ");
  return Object.entries(facts)
    .map(([name, value]) => [name.replaceAll("_", " "), short(factsText(value))] as const)
    .filter(([, text]) => text !== "")
    .map(([name, text]) => `${name} ${text}`)
    .join("; ");
}

/** A digest's beginning: all of it is in the exported trail. */
function short(text: string): string {
  return /^[0-9a-f]{64}$/.test(text) ? `${text.slice(0, 12)}…` : text;
}
