import { readFileSync } from 'node:fs';
import { quote } from './quote.ts';

/** What is done by the last line of each. */
const SCRIPTS = {
  check: read('common', 'places', 'check'),
  create: read('common', 'places', 'account', 'erase', 'create'),
  remove: read('common', 'places', 'account', 'erase', 'remove'),
  list: read('common', 'list'),
} as const;

export type ScriptName = keyof typeof SCRIPTS;

/** What a script reads, each a shell variable of that name. */
export interface ScriptParameters {
  check: { instance: string };
  create: {
    instance: string;
    account: string;
    taskrun: string;
    public_key: string;
    expires: string;
    max_processes: string;
    cpu_minutes: string;
  };
  remove: { instance: string; account: string };
  list: { instance: string };
}

/** The text for a shell's standard input. Parameters become quoted words, never part of the script. */
export function scriptText<N extends ScriptName>(name: N, parameters: ScriptParameters[N]): string {
  const assignments = Object.entries<string>(parameters).map(([variable, value]) => `${variable}=${quote(value)}\n`);
  return assignments.join('') + SCRIPTS[name];
}

function read(...parts: readonly string[]): string {
  return parts.map((part) => readFileSync(new URL(`scripts/${part}.sh`, import.meta.url), 'utf8')).join('\n');
}
