/** What the form about a person says, as the server takes it. */

import type { Account, AccountChange, NewAccount, Role } from "../../api";

export interface AccountForm {
  name: string;
  fullName: string;
  role: Role;
  seesNames: boolean;
  /** One a line; nothing for all. */
  collections: string;
  password: string;
  active: boolean;
}

export const SHORTEST_PASSWORD = 8;

export const BLANK: AccountForm = {
  name: "",
  fullName: "",
  role: "reviewer",
  seesNames: false,
  collections: "",
  password: "",
  active: true,
};

export function formOf(account: Account): AccountForm {
  return { ...account, collections: (account.collections ?? []).join("\n"), password: "" };
}

/** What is wrong with a form, null if nothing is. `known`: the names that are taken; empty when one is changed. */
export function wrongWith(form: AccountForm, known: readonly string[], isNew: boolean): string | null {
  if (form.name.trim() === "") return "Give a name to sign in with.";
  if (isNew && known.includes(form.name.trim())) return `There is somebody called ${form.name.trim()} already.`;
  if (form.fullName.trim() === "") return "Give the full name: decisions are signed with it.";
  if ((isNew || form.password !== "") && form.password.length < SHORTEST_PASSWORD) {
    return `Give a password of at least ${SHORTEST_PASSWORD} characters.`;
  }
  return null;
}

export function newAccount(form: AccountForm): NewAccount {
  const { role, seesNames, password } = form;
  const name = form.name.trim();
  return { name, fullName: form.fullName.trim(), role, seesNames, collections: collectionsOf(form), password };
}

/** Only what differs from the account as it is. */
export function changeOf(account: Account, form: AccountForm): AccountChange {
  const change: AccountChange = {};
  const fullName = form.fullName.trim();
  if (fullName !== account.fullName) change.fullName = fullName;
  if (form.role !== account.role) change.role = form.role;
  if (form.seesNames !== account.seesNames) change.seesNames = form.seesNames;
  if (form.active !== account.active) change.active = form.active;
  if (form.password !== "") change.password = form.password;
  const collections = collectionsOf(form);
  if (JSON.stringify(collections) !== JSON.stringify(account.collections)) change.collections = collections;
  return change;
}

function collectionsOf(form: AccountForm): string[] | null {
  const names = form.collections.split("\n").map((line) => line.trim());
  const given = [...new Set(names.filter((name) => name !== ""))];
  return given.length === 0 ? null : given;
}
