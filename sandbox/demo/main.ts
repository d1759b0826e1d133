import { Command, Option } from 'commander';
import { systemClock } from '#shared/clock.ts';
import { messageOf } from '#shared/errors.ts';
import type { HostKind } from '../hosts/host.ts';
import { INTERRUPTED_EXIT_CODE, interruption, orAborted } from '../interrupt.ts';
import { hostKindOption, parseCount } from '../layout.ts';
import { createProgress } from '../progress.ts';
import { runDemo, startDemoSandbox } from './demo.ts';
import { summary } from './report.ts';
import { createScreen } from './screen.ts';

const command = new Command('npm run demo --')
  .description(
    'Starts a whole cluster on this machine with hosts of two platforms and few slots, and gives it more TaskRuns than there are ' +
      'slots. Each brings a small source tree to its host, builds and runs it there and brings the result back. Then it checks, on ' +
      'the hosts themselves, that nothing is left. Exit code 1 where anything is off.',
  )
  .addOption(
    new Option(
      '--output <format>',
      'text: a live picture and a summary; json: one JSON object on standard output, all else on standard error',
    )
      .choices(['text', 'json'])
      .default('text'),
  )
  .option('--builds <n>', 'TaskRuns that build, besides the two that do not', parseCount(1, 1000), 16)
  .addOption(hostKindOption())
  .helpOption('-h, --help', 'show this help')
  .addHelpText(
    'after',
    `
The JSON object:
  taskRuns           all TaskRuns
  succeeded          built on a host of their platform, with the right result brought back
  failedAsExpected   for a platform that nobody has: failed, with a message that names it
  untouched          without PLATFORM: succeeded and never carried a finalizer, label, annotation or Secret of ours
  overCommitted      how often a host was seen with more accounts, or with more TaskRuns that name it, than it has slots: the hosts are
                     looked into five times a second, the TaskRuns are watched
  accountsLeft, secretsLeft, finalizersLeft
                     what was still there when all TaskRuns had ended
  secretLatencyMs    from the TaskRun's Pod to its Secret, as a watch saw them come, over the TaskRuns that never had to wait for a slot
  seconds            from the start of this command to the last check, before everything is stopped`,
  )
  .allowExcessArguments(false)
  .parse();

interface Flags {
  output: 'text' | 'json';
  builds: number;
  hostKind: HostKind | 'auto';
}

const { output, builds, hostKind } = command.opts<Flags>();
const startMs = performance.now();
const out = output === 'json' ? process.stderr : process.stdout;
const interrupted = interruption();
const progress = createProgress({ output: out, clock: systemClock });
const screen = createScreen(out, process.env);
let exitCode = 1;
try {
  const sandbox = await startDemoSandbox({ hostKind, env: process.env, progress, signal: interrupted });
  try {
    const demo = runDemo({ sandbox, screen, progress, clock: systemClock, builds, startMs });
    const { report, problems, refusal } = await orAborted(demo, interrupted);
    screen.close();
    out.write(`${summary(report, problems, refusal)}\n`);
    if (output === 'json') process.stdout.write(`${JSON.stringify(report)}\n`);
    exitCode = problems.length === 0 ? 0 : 1;
  } finally {
    screen.close();
    await sandbox.stop();
  }
} catch (error) {
  screen.close();
  process.stderr.write(`${messageOf(error)}\n`);
}
process.exit(interrupted.aborted ? INTERRUPTED_EXIT_CODE : exitCode);
