import { styleText } from 'node:util';
import type { Observed, Stage } from './observed.ts';

export interface ViewState {
  readonly seconds: number;
  readonly hosts: readonly {
    readonly name: string;
    readonly platform: string;
    readonly slots: number;
    /** How many accounts it has now. */
    readonly accounts: number;
  }[];
  readonly taskRuns: readonly Observed[];
  /** The newest last. */
  readonly events: readonly string[];
}

const STAGES: readonly (readonly [Stage, string])[] = [
  ['new', 'starting'],
  ['queued', 'queued'],
  ['preparing', 'getting an account'],
  ['running', 'running'],
  ['done', 'being cleaned up'],
];

const MAX_EVENTS = 6;

/** The live picture, line by line, none longer than `columns`. */
export function render(state: ViewState, columns: number): string[] {
  const { hosts, taskRuns, events, seconds } = state;
  const released = taskRuns.filter(({ stage }) => stage === 'released').length;
  const width = Math.max(...hosts.map(({ name }) => name.length));
  const title = `${released} of ${taskRuns.length} TaskRuns finished after ${seconds.toFixed(0)} s`;
  const hostLines = hosts.map((host) => {
    const users = taskRuns.filter((run) => run.host === host.name && run.stage !== 'released');
    const free = Math.max(0, host.slots - users.length);
    const slots = `${'●'.repeat(users.length)}${'○'.repeat(free)}`;
    const accounts = `${host.accounts} account${host.accounts === 1 ? ' ' : 's'}`;
    return `${host.name.padEnd(width)}  ${host.platform}  ${slots}  ${accounts}  ${users.map(({ job }) => job.name).join(' ')}`;
  });
  const platforms = [...new Set(hosts.map(({ platform }) => platform))];
  const queueLines = platforms.map((platform) => {
    const queue = taskRuns.filter(({ job, stage }) => stage === 'queued' && job.platform === platform);
    return `${platform}: ${queue.map(({ job }) => job.name).join(' ') || '–'}`;
  });
  const counts = STAGES.map(([stage, text]) => `${taskRuns.filter((run) => run.stage === stage).length} ${text}`);
  const lines = [
    styleText('bold', cut(title, columns)),
    '',
    styleText('cyan', 'Hosts'),
    ...hostLines.map((line) => `  ${cut(line, columns - 2)}`),
    styleText('cyan', 'Queue'),
    ...queueLines.map((line) => `  ${cut(line, columns - 2)}`),
    styleText('cyan', 'TaskRuns'),
    `  ${cut(counts.join(', '), columns - 2)}`,
    '',
    ...events.slice(-MAX_EVENTS).map((line) => styleText('dim', cut(line, columns))),
  ];
  return lines;
}

function cut(text: string, columns: number): string {
  return text.length <= columns ? text : `${text.slice(0, Math.max(0, columns - 1))}…`;
}
