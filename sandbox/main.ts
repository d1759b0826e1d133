import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Command } from 'commander';
import { systemClock } from '#shared/clock.ts';
import { messageOf } from '#shared/errors.ts';
import type { HostKind } from './hosts/host.ts';
import { introduction } from './introduction.ts';
import { aborted, INTERRUPTED_EXIT_CODE, interruption } from './interrupt.ts';
import { hostKindOption, hostSpecs, parseCount, parsePlatforms } from './layout.ts';
import { createProgress } from './progress.ts';
import { sampleTaskRun } from './sample.ts';
import { type Sandbox, startSandbox } from './sandbox.ts';

interface Flags {
  platforms: string[];
  hosts: number;
  slots: number;
  hostKind: HostKind | 'auto';
  webhook: boolean;
  controller: boolean;
}

const command = new Command('npm run sandbox --')
  .description(
    'Starts a whole cluster on this machine and stays up until Ctrl-C: a real etcd and kube-apiserver with Tekton’s resources, ' +
      'real SSH hosts, this project’s webhook and controller, and a stand-in for Tekton and the kubelet that runs TaskRuns.',
  )
  .option('--platforms <list>', 'platforms to have hosts for, comma-separated', parsePlatforms, [
    'linux/arm64',
    'linux/s390x',
  ])
  .option('--hosts <n>', 'hosts for each platform', parseCount(1, 100), 1)
  .option('--slots <n>', 'TaskRuns that each host takes at once', parseCount(1, 1000), 2)
  .addOption(hostKindOption())
  .option('--no-webhook', 'leave the webhook out: the controller marks TaskRuns itself')
  .option('--no-controller', 'leave the controller out, to run it by hand or in a debugger')
  .helpOption('-h, --help', 'show this help')
  .allowExcessArguments(false)
  .parse();

const interrupted = interruption();
const progress = createProgress({ output: process.stdout, clock: systemClock });
const flags = command.opts<Flags>();
try {
  const sandbox = await startSandbox({
    hosts: hostSpecs({ platforms: flags.platforms, hostsPerPlatform: flags.hosts, slots: flags.slots }),
    hostKind: flags.hostKind,
    webhook: flags.webhook,
    controller: flags.controller,
    env: process.env,
    progress,
    signal: interrupted,
  });
  progress.step(introduction(sandbox, await writeSample(sandbox), flags));
  await aborted(interrupted);
  progress.step('stopping…');
  await sandbox.stop();
  process.exit(0);
} catch (error) {
  progress.step('');
  process.stderr.write(`${messageOf(error)}\n`);
  process.exit(interrupted.aborted ? INTERRUPTED_EXIT_CODE : 1);
}

async function writeSample({ folder }: Sandbox): Promise<{ name: string; file: string }> {
  const name = 'hello';
  const file = path.join(folder, 'task-run.yaml');
  await writeFile(file, await sampleTaskRun({ name, platform: flags.platforms[0] ?? '' }));
  return { name, file };
}
