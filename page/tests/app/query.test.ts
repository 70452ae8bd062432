import { describe, expect, it } from "vitest";

import { addressOf, changed, EVERYTHING, orderedBy, queryOf, sortOf, toggled } from "../../src/app/worklist/query";

describe("the worklist's query", () => {
  it("comes back from its address", () => {
    const query = {
      ...EVERYTHING,
      states: ["escalated" as const, "rejected" as const],
      structure: "left kidney",
      search: "a & b=ö/?",
      order: "site",
      offset: 150,
    };
    expect(queryOf(addressOf(query))).toEqual(query);
    expect(addressOf(EVERYTHING)).toBe("");
  });

  it("leaves out what an address says wrongly", () => {
    expect(queryOf("state=burned&order=-password&page=-3&page=2&limit=9999")).toEqual(EVERYTHING);
    expect(queryOf("page=Infinity").offset).toBe(0);
  });

  it("starts at the first page after a change", () => {
    expect(changed({ ...EVERYTHING, offset: 100 }, { site: "North" })).toEqual({ ...EVERYTHING, site: "North" });
  });

  it("orders by a column its usual way first, then the other way", () => {
    expect(orderedBy("-priority", "site")).toBe("site");
    expect(orderedBy("site", "site")).toBe("-site");
    expect(orderedBy("site", "date")).toBe("-date");
    expect(sortOf("-date", "date")).toBe("descending");
    expect(sortOf("-date", "site")).toBe("none");
  });

  it("lists one state more or less", () => {
    expect(toggled(["rejected"], "unreviewed")).toEqual(["unreviewed", "rejected"]);
    expect(toggled(["unreviewed", "rejected"], "unreviewed")).toEqual(["rejected"]);
  });
});
