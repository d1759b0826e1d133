import type { HostKind } from '../hosts/host.ts';
import type { Observed } from './observed.ts';
import { EXPECTED_OUTPUT } from './workload.ts';

const ACCOUNT = /^u-[0-9a-f]{28}$/;

/** What `--output json` prints. */
export interface Report {
  readonly taskRuns: number;
  readonly succeeded: number;
  readonly failedAsExpected: number;
  readonly untouched: number;
  readonly overCommitted: number;
  readonly accountsLeft: number;
  readonly secretsLeft: number;
  readonly finalizersLeft: number;
  readonly secretLatencyMs: { readonly p50: number; readonly p99: number };
  readonly seconds: number;
}

export interface Findings {
  readonly taskRuns: readonly Observed[];
  /** What each TaskRun's steps wrote, by its name. */
  readonly logs: ReadonlyMap<string, string>;
  readonly overCommitted: number;
  /** One line for each account, process, file or folder that is left on a host. */
  readonly accountsLeft: readonly string[];
  readonly otherTraces: readonly string[];
  readonly secretsLeft: readonly string[];
  readonly seconds: number;
  readonly hostKind: HostKind;
}

/** Why each TaskRun is not what it should have become; nothing where it is. */
export function disappointment(run: Observed, log: string, hostKind: HostKind): string | undefined {
  const { job, condition, report = '', host = '' } = run;
  const state = `${condition?.status ?? 'not started'} ${condition?.reason ?? ''}`.trim();
  switch (job.expectation) {
    case 'built': {
      if (condition?.status !== 'True') return `${job.name} did not succeed (${state}): ${lastLine(log)}`;
      const [, account = '', on, output] = /^(\S+) on (\S+): (.*)$/.exec(report) ?? [];
      if (output !== EXPECTED_OUTPUT) return `${job.name} brought back "${report}"`;
      // An imitated host is this machine: it has no accounts and no name of its own.
      if (hostKind === 'imitation') return undefined;
      if (!ACCOUNT.test(account)) return `${job.name} ran as ${account}`;
      return hostKind === 'namespace' && on !== host ? `${job.name} was given ${host} but ran on ${on}` : undefined;
    }
    case 'refused': {
      if (condition?.status !== 'False') return `${job.name} should have failed (${state})`;
      return log.includes(job.platform ?? '') ? undefined : `${job.name} failed without saying why: ${lastLine(log)}`;
    }
    case 'untouched': {
      if (condition?.status !== 'True') return `${job.name} did not succeed (${state})`;
      return run.marked || run.secretMs !== undefined ? `${job.name} was touched, and it has no PLATFORM` : undefined;
    }
  }
}

export function reportOf(findings: Findings): { report: Report; problems: string[]; refusal: string } {
  const { taskRuns, logs, hostKind } = findings;
  const judged = taskRuns.map((run) => ({
    run,
    problem: disappointment(run, logs.get(run.job.name) ?? '', hostKind),
  }));
  const asExpected = (expectation: Observed['job']['expectation']): number =>
    judged.filter(({ run, problem }) => problem === undefined && run.job.expectation === expectation).length;
  const withFinalizer = taskRuns.filter(({ holdsFinalizer }) => holdsFinalizer);
  const latencies = taskRuns.flatMap(latencyOf);
  const report: Report = {
    taskRuns: taskRuns.length,
    succeeded: asExpected('built'),
    failedAsExpected: asExpected('refused'),
    untouched: asExpected('untouched'),
    overCommitted: findings.overCommitted,
    accountsLeft: findings.accountsLeft.length,
    secretsLeft: findings.secretsLeft.length,
    finalizersLeft: withFinalizer.length,
    secretLatencyMs: { p50: percentile(latencies, 50), p99: percentile(latencies, 99) },
    seconds: Math.round(findings.seconds * 10) / 10,
  };
  const problems = [
    ...judged.flatMap(({ problem }) => problem ?? []),
    ...(findings.overCommitted > 0 ? [`hosts were over their slots ${findings.overCommitted} times`] : []),
    ...(latencies.length === 0 ? ['no Secret was seen to come'] : []),
    ...findings.accountsLeft.map((left) => `an account is left: ${left}`),
    ...findings.otherTraces.map((left) => `a trace is left: ${left}`),
    ...findings.secretsLeft.map((left) => `a Secret is left: ${left}`),
    ...withFinalizer.map(({ job }) => `the finalizer is left on ${job.name}`),
  ];
  const refused = taskRuns.find(({ job }) => job.expectation === 'refused')?.job.name ?? '';
  return { report, problems, refusal: lastLine(logs.get(refused) ?? '') };
}

/** From Pod to Secret, where a slot was free: what waits in the queue waits for others' builds. */
function latencyOf({ job, waited, podMs, secretMs }: Observed): number[] {
  if (job.expectation !== 'built' || waited || podMs === undefined || secretMs === undefined) return [];
  return [Math.max(0, secretMs - podMs)];
}

/** Nearest rank; 0 of nothing. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)] ?? 0;
}

/** For a person. `refusal` is what the TaskRun for the unknown platform was told. */
export function summary(report: Report, problems: readonly string[], refusal: string): string {
  const { secretLatencyMs: latency, taskRuns } = report;
  const lines = [
    '',
    `${report.succeeded} TaskRuns built on a host of their platform and brought the result back,`,
    `${report.failedAsExpected} for a platform that nobody has was told so, ${report.untouched} without PLATFORM was left alone: ${taskRuns} in all.`,
    `  it was told: ${refusal}`,
    `Hosts over their slots: ${report.overCommitted}. Left behind: ${report.accountsLeft} accounts, ${report.secretsLeft} Secrets, ${report.finalizersLeft} finalizers.`,
    `From Pod to Secret where a slot was free: p50 ${latency.p50} ms, p99 ${latency.p99} ms. The whole demo took ${report.seconds} s.`,
    ...problems.map((problem) => `PROBLEM: ${problem}`),
    problems.length === 0 ? 'All is as it should be.' : `${problems.length} problems.`,
  ];
  return lines.join('\n');
}

function lastLine(log: string): string {
  return log.trimEnd().split('\n').at(-1) ?? '';
}
