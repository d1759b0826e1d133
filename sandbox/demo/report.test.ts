import { describe, expect, it } from 'vitest';
import { type Observed, unseen } from './observed.ts';
import { disappointment, type Findings, percentile, reportOf, summary } from './report.ts';
import type { Expectation } from './workload.ts';

const REPORT = 'u-0123456789abcdef0123456789ab on arm64-1: 148933 primes below 2000000';

function run(expectation: Expectation, status: 'True' | 'False', fields: Partial<Observed> = {}): Observed {
  const platform = { built: 'linux/arm64', refused: 'linux/riscv64', untouched: undefined }[expectation];
  return {
    ...unseen({ name: expectation, platform, expectation }),
    stage: 'released',
    condition: { type: 'Succeeded', status, reason: 'Any' },
    ...fields,
  };
}

const built = (fields: Partial<Observed> = {}): Observed =>
  run('built', 'True', { report: REPORT, host: 'arm64-1', marked: true, podMs: 100, secretMs: 150, ...fields });

const clean: Findings = {
  taskRuns: [built(), run('refused', 'False', { marked: true, secretMs: 1 }), run('untouched', 'True')],
  logs: new Map([['refused', 'no host for linux/riscv64\n']]),
  overCommitted: 0,
  accountsLeft: [],
  otherTraces: [],
  secretsLeft: [],
  seconds: 12.345,
  hostKind: 'namespace',
};

describe('the report of a demo', () => {
  it('is all well', () => {
    expect(reportOf(clean)).toEqual({
      report: {
        taskRuns: 3,
        succeeded: 1,
        failedAsExpected: 1,
        untouched: 1,
        overCommitted: 0,
        accountsLeft: 0,
        secretsLeft: 0,
        finalizersLeft: 0,
        secretLatencyMs: { p50: 50, p99: 50 },
        seconds: 12.3,
      },
      problems: [],
      refusal: 'no host for linux/riscv64',
    });
  });

  it.each<[string, Partial<Findings>]>([
    ['a host over its slots', { overCommitted: 1 }],
    ['an account left', { accountsLeft: ['u-1 on arm64-1'] }],
    ['a process or home left', { otherTraces: ['/home/u-1 on arm64-1'] }],
    ['a Secret left', { secretsLeft: ['multi-platform-ssh-x'] }],
    ['a finalizer left', { taskRuns: [built({ holdsFinalizer: true })] }],
    ['no latency', { taskRuns: [built({ waited: true })] }],
  ])('has one problem with %s', (_, fields) => {
    expect(reportOf({ ...clean, ...fields }).problems).toHaveLength(1);
  });

  it('leaves those that waited out of the latency', () => {
    const taskRuns = [built(), built({ secretMs: 170 }), built({ waited: true, secretMs: 9000 })];
    expect(reportOf({ ...clean, taskRuns }).report.secretLatencyMs).toEqual({ p50: 50, p99: 70 });
  });

  it('says in the summary what is wrong', () => {
    const { report, problems, refusal } = reportOf({ ...clean, secretsLeft: ['s'] });
    expect(summary(report, problems, refusal)).toContain('PROBLEM: a Secret is left: s');
  });
});

describe('a TaskRun is not what it should have become', () => {
  it.each<[string, Observed, string]>([
    ['where a build failed', run('built', 'False'), ''],
    ['where a build brought back something else', built({ report: REPORT.replace('148933', '1') }), ''],
    ['where a build ran as somebody else', built({ report: REPORT.replace(/u-\w+/, 'root') }), ''],
    ['where a build ran on another host', built({ host: 'arm64-2' }), ''],
    ['where nobody refused it', run('refused', 'True'), 'linux/riscv64'],
    ['where it was not told why', run('refused', 'False'), 'something went wrong'],
    ['where one without a platform failed', run('untouched', 'False'), ''],
    ['where one without a platform was touched', run('untouched', 'True', { marked: true }), ''],
    ['where one without a platform got a Secret', run('untouched', 'True', { secretMs: 1 }), ''],
  ])('%s', (_, observed, log) => {
    expect(disappointment(observed, log, 'namespace')).toMatch(/^(?:built|refused|untouched) /);
  });

  it('but an imitated host has no name to compare with', () => {
    expect(disappointment(built({ host: 'arm64-2' }), '', 'imitation')).toBeUndefined();
  });
});

describe('a percentile', () => {
  it('is the nearest rank', () => {
    const values = [40, 10, 30, 20];
    expect([percentile(values, 50), percentile(values, 99), percentile(values, 25)]).toEqual([20, 40, 10]);
  });

  it('is 0 of nothing', () => expect(percentile([], 50)).toBe(0));
});
