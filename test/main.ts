#!/usr/bin/env node
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { z } from 'zod';

import { ensureControlPlaneAssets, ensureTool } from '#sandbox/control-plane/binaries.ts';
import { ensureCommands } from '#sandbox/packages.ts';
import { createProgress } from '#sandbox/progress.ts';
import { systemClock } from '#shared/clock.ts';
import { messageOf } from '#shared/errors.ts';

/**
 * `npm test`: gets what the tests need (unit tests alone need nothing), with its progress on screen, then runs vitest with the
 * arguments that were given. Ends with `N passed, N failed` alone on a line. With CI set, a skipped test is a failure.
 */
const report = z.object({
  numPassedTests: z.number(),
  numFailedTests: z.number(),
  numPendingTests: z.number(),
  numTodoTests: z.number(),
});

const args = process.argv.slice(2);
const isUnitOnly = /--project[ =]unit\b/.test(args.join(' '));
const progress = createProgress({ output: process.stdout, clock: systemClock });
const folder = await mkdtemp(path.join(tmpdir(), 'mpc-test-report-'));
try {
  if (!isUnitOnly) {
    await ensureCommands(['sshd', 'ssh', 'rsync', 'ip', 'sudo', 'gcc', 'make'], (line) => progress.step(line));
    await ensureControlPlaneAssets({ env: process.env, progress });
    for (const tool of ['helm', 'kubectl'] as const) await ensureTool(tool, { env: process.env, progress });
  }
  const file = path.join(folder, 'report.json');
  const vitest = path.join(import.meta.dirname, '..', 'node_modules', 'vitest', 'vitest.mjs');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  const child = spawn(process.execPath, [vitest, 'run', ...reporters, ...args], { stdio: 'inherit' });
  const [code] = await once(child, 'exit');
  const counts = report.parse(JSON.parse(await readFile(file, 'utf8')));
  const skipped = counts.numPendingTests + counts.numTodoTests;
  let failed = counts.numFailedTests;
  if (process.env.CI !== undefined && skipped > 0) failed += skipped;
  // An error outside of any test, say in setting up a file.
  if (code !== 0 && failed === 0) failed = 1;
  process.stdout.write(`${counts.numPassedTests} passed, ${failed} failed\n`);
  process.exitCode = failed === 0 ? 0 : 1;
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n`);
  process.stdout.write('0 passed, 1 failed\n');
  process.exitCode = 1;
} finally {
  await rm(folder, { recursive: true, force: true });
}
