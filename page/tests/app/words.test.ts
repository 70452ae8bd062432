import { expect, it } from "vitest";

import { changeOf, formOf, newAccount, wrongWith, BLANK } from "../../src/app/admin/account";
import { factsText } from "../../src/app/admin/facts";
import { shareText, spreadText } from "../../src/app/dashboard/GroupTable";
import { caseAddress, routeOf } from "../../src/app/route";
import { day, decimal, duration, moment, personName, volume, withPlainNames } from "../../src/app/words";

/** With plain spaces, where the page has some that do not break. */
const spaced = (text: string) => text.replaceAll("\u00a0", " ");

it("says durations in the units that people use", () => {
  expect([0, 59.4, 59.6, 125, 3600, 3599.7, 7385].map((seconds) => spaced(duration(seconds)))).toEqual([
    "0 s",
    "59 s",
    "1 min 00 s",
    "2 min 05 s",
    "1 h 00 min",
    "1 h 00 min",
    "2 h 03 min",
  ]);
  expect(duration(null)).toBe("–");
});

it("says dates of DICOM and of ISO alike, and leaves others as they are", () => {
  expect([day("20240131"), day("2024-01-31T10:00"), day("autumn"), day("")]).toEqual([
    "2024-01-31",
    "2024-01-31",
    "autumn",
    "",
  ]);
});

it("takes times without a zone as UTC", () => {
  expect(moment("2024-01-31T10:00:05.25")).toBe(moment("2024-01-31T10:00:05+00:00"));
  expect(moment("2024-01-31T12:00:05+02:00")).toBe(moment("2024-01-31T10:00:05Z"));
  expect(moment("yesterday")).toBe("yesterday");
});

it("gives volumes as many digits as mean something", () => {
  expect([0.049, 4.25, 1530.4].map((value) => spaced(volume(value)))).toEqual(["0.05 ml", "4.3 ml", "1,530 ml"]);
  expect(decimal(-0.5, 2)).toBe("-0.50");
});

it("says shares with their interval and medians with quartiles, or that there are none", () => {
  const none = { count: 0, of: 0, value: null, lower: null, upper: null };
  const share = { count: 8, of: 12, value: 8 / 12, lower: 0.391, upper: 0.862 };
  expect(spaced(shareText({ unedited: share }))).toBe("67 % (8 of 12; 39–86 %)");
  expect(shareText({ unedited: none })).toBe("–");
  const text = (value: number | null) => decimal(value, 2);
  expect(spreadText({ count: 3, median: 0.9, lower: 0.8, upper: 0.95 }, text)).toBe("0.90 (0.80–0.95)");
  expect(spreadText({ count: 1, median: 0.9, lower: 0.9, upper: 0.9 }, text)).toBe("0.90");
  expect(spreadText({ count: 0, median: null, lower: null, upper: null }, text)).toBe("–");
});

it("says names of DICOM as people write them", () => {
  expect(["Doe^Jane^M^^", "Doe", "Yamada^Tarou=山田^太郎", ""].map(personName)).toEqual([
    "Doe, Jane M",
    "Doe",
    "Yamada, Tarou",
    "",
  ]);
});

it("finds a case by its address, whatever its key is made of", () => {
  for (const key of ["p1", "a/b?c#d", "100%", "ö ü"]) expect(routeOf(caseAddress(key))).toEqual({ page: "case", key });
  expect(routeOf("#/case/%E0%A4%A")).toEqual({ page: "unknown", address: "/case/%E0%A4%A" });
  expect(routeOf("#/?state=rejected")).toEqual({ page: "worklist", query: "state=rejected" });
});

const ACCOUNT = {
  name: "ada",
  fullName: "Ada L",
  role: "reviewer" as const,
  seesNames: false,
  collections: ["abdomen", "head"],
  active: true,
};

it("changes of an account only what differs", () => {
  expect(changeOf(ACCOUNT, formOf(ACCOUNT))).toEqual({});
  const form = { ...formOf(ACCOUNT), collections: " \n", role: "viewer" as const, active: false };
  expect(changeOf(ACCOUNT, form)).toEqual({ collections: null, role: "viewer", active: false });
});

it("asks for what an account needs before anything is sent", () => {
  const form = { ...BLANK, name: "ada ", fullName: "Ada", password: "short", collections: "head\n head\n" };
  expect(wrongWith({ ...form, name: " " }, [], true)).toMatch("name to sign in");
  expect(wrongWith(form, ["ada"], true)).toMatch("somebody called ada");
  expect(wrongWith(form, [], true)).toMatch("at least 8");
  expect(wrongWith({ ...form, password: "" }, ["ada"], false)).toBeNull();
  expect(newAccount(form)).toMatchObject({ name: "ada", collections: ["head"] });
});

it("says an event's facts in one line, digests shortened", () => {
  const facts = { revision: 3, seen_digest: "ab".repeat(32), reason: "", structures: ["liver", "spleen"], inner: { a: 1 } };
  expect(factsText(facts)).toBe("revision 3; seen digest abababababab…; structures liver, spleen; inner a 1");
  expect(factsText(null)).toBe("");
});

it("says structures' names without underscores, and leaves other words alone", () => {
  const structures = [{ name: "lung" }, { name: "lung_left" }, { name: "aorta" }];
  expect(withPlainNames("lung_left is in 3 pieces, see other_words", structures)).toBe(
    "lung left is in 3 pieces, see other_words",
  );
});
