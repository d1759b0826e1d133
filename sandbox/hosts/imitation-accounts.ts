import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { ChildProcess } from 'node:child_process';
import type { ScriptName } from '#controller/host/scripts.ts';

/** An account that is only a folder and a note in memory. */
export interface ImitatedAccount {
  readonly instance: string;
  readonly taskRunUid: string;
  /** `type base64` */
  readonly publicKey: string;
  readonly expiresAtMs: number;
  readonly home: string;
  /** Those that were started over SSH, each the leader of a process group. */
  readonly running: Set<ChildProcess>;
}

/** A word in single quotes, as the controller's `quote` writes it, is all that an assignment can be here. */
const ASSIGNMENT = /^(?<name>[a-z_]+)=(?<word>'(?:[^']|'\\'')*')$/gm;
const LAST_LINE = /^(?<operation>check|create|remove|list) <\/dev\/null\s*$/;

export interface ControllerScript {
  readonly operation: ScriptName;
  readonly parameters: ReadonlyMap<string, string>;
}

/** Undefined for anything but a script of the controller: nothing else is understood, and nothing of it is ever run. */
export function readScript(text: string): ControllerScript | undefined {
  const operation = LAST_LINE.exec(text.trimEnd().split('\n').at(-1) ?? '')?.groups?.['operation'];
  if (!isScriptName(operation)) return undefined;
  // The parameters come first; what looks like one further down belongs to the script.
  const head = text.slice(0, text.search(/^#/m));
  const parameters = [...head.matchAll(ASSIGNMENT)].map(({ groups }): [string, string] => [
    groups?.['name'] ?? '',
    (groups?.['word'] ?? '').slice(1, -1).replaceAll(String.raw`'\''`, "'"),
  ]);
  return { operation, parameters: new Map(parameters) };
}

function isScriptName(text: string | undefined): text is ScriptName {
  return text === 'check' || text === 'create' || text === 'remove' || text === 'list';
}

/** The accounts of one imitated host. */
export class ImitatedAccounts {
  readonly #accounts = new Map<string, ImitatedAccount>();
  readonly #homes: string;

  /** @param homes a folder for their homes, which is there. */
  constructor(homes: string) {
    this.#homes = homes;
  }

  get(name: string): ImitatedAccount | undefined {
    return this.#accounts.get(name);
  }

  names(): string[] {
    return [...this.#accounts.keys()].toSorted();
  }

  async homes(): Promise<string[]> {
    return (await readdir(this.#homes)).toSorted();
  }

  /** What the script would have answered, as a value for JSON. */
  async carryOut({ operation, parameters }: ControllerScript): Promise<object> {
    const parameter = (name: string): string => parameters.get(name) ?? '';
    const instance = parameter('instance');
    const name = parameter('account');
    switch (operation) {
      case 'check':
        return { ok: true, now: Math.floor(Date.now() / 1000) };
      case 'list': {
        const ours = [...this.#accounts].filter(([, account]) => account.instance === instance);
        return { ok: true, accounts: ours.map(([account, { taskRunUid }]) => ({ account, taskRunUid })) };
      }
      case 'create':
      case 'remove': {
        if ((this.#accounts.get(name)?.instance ?? instance) !== instance) {
          return { error: 'foreign-account', text: name, left: false };
        }
        await this.remove(name);
        if (operation === 'remove') return { ok: true };
        const home = path.join(this.#homes, name);
        await mkdir(home, { mode: 0o700 });
        this.#accounts.set(name, {
          instance,
          taskRunUid: parameter('taskrun'),
          publicKey: parameter('public_key'),
          expiresAtMs: Number(parameter('expires')) * 1000,
          home,
          running: new Set(),
        });
        return { ok: true, home };
      }
    }
  }

  async remove(name: string): Promise<void> {
    const account = this.#accounts.get(name);
    if (account === undefined) return;
    for (const { pid } of account.running) endGroup(pid);
    await rm(account.home, { recursive: true, force: true });
    this.#accounts.delete(name);
  }
}

function endGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended already.
  }
}
