import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { mustRun } from '#sandbox/hosts/command.ts';
import type { Host } from '#sandbox/hosts/host.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';

import { onHost, startHostFixture, type HostFixture } from './host-fixture.ts';
import { CHART, objectsOf, useHelm } from './support/helm.ts';

const DOCS = path.join(import.meta.dirname, '..', '..', 'docs');
const textOf = (page: string): Promise<string> => readFile(path.join(DOCS, `${page}.md`), 'utf8');

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'docs-'));
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

test('Helm knows each flag that the docs give it', async () => {
  const helm = await useHelm({ kubeconfig: '/nonexistent', folder });
  const used = new Map<string, Set<string>>();
  for (const page of (await readdir(DOCS)).filter((name) => name.endsWith('.md'))) {
    const text = (await readFile(path.join(DOCS, page), 'utf8')).replaceAll('\\\n', ' ');
    for (const [line, command = ''] of text.matchAll(/\bhelm ([a-z]+)\b[^`|\n]*/g)) {
      const flags = line.match(/(?<= )--[a-z-]+/g);
      if (flags !== null) used.set(command, new Set([...(used.get(command) ?? []), ...flags]));
    }
  }
  expect([...used.keys()]).toEqual(expect.arrayContaining(['install', 'rollback', 'template', 'uninstall', 'upgrade']));
  for (const [command, flags] of used) {
    const help = await helm.must([command, '--help']);
    const unknown = [...flags].filter((flag) => !new RegExp(`^ +(-\\w, )?${flag}\\b`, 'm').test(help));
    expect([command, unknown]).toEqual([command, []]);
  }
});

test('rendering refuses a wrong list of hosts without a cluster, and takes what the guide shows', async () => {
  const helm = await useHelm({ kubeconfig: '/nonexistent', folder });
  const [, values = ''] = /^```yaml\n(image:.*?)^```$/ms.exec(await textOf('install')) ?? [];
  const file = path.join(folder, 'my-values.yaml');
  const [command = ''] = /helm template .*--values my-values\.yaml/.exec(await textOf('migrating')) ?? [];
  const args = command
    .replace('my-values.yaml', file)
    .replace('charts/multi-platform-controller', CHART)
    .split(' ')
    .slice(1);
  await writeFile(file, values);
  expect(await helm.must(args)).toContain('host.arm64-1.address');
  await writeFile(file, values.replace('- ssh-ed25519', '- HOST ssh-ed25519'));
  expect(await helm.run(args)).toMatchObject({ code: 1, stderr: expect.stringContaining('/hosts/0/hostKeys/0') });
});

test('Pods have the labels by which the docs and the notes of the chart ask for their logs', async () => {
  const helm = await useHelm({ kubeconfig: '/nonexistent', folder });
  const pages = await Promise.all(['install', 'operations'].map(textOf));
  const notes = await readFile(path.join(CHART, 'templates', 'NOTES.txt'), 'utf8');
  const logs = [...pages, notes].flatMap((text) => text.replaceAll('\n  --', ' --').match(/kubectl logs .*/g) ?? []);
  const asked = logs.flatMap((line) => /(?:--selector|-l) ([^\s`]+)/.exec(line)?.[1] ?? []);
  const rendered = objectsOf(await helm.must(['template', CHART])) as Workload[];
  const labels = rendered.flatMap(({ spec }) => Object.entries(spec?.template?.metadata.labels ?? {}));
  expect(asked.length).toBe(4);
  for (const selector of asked) expect(labels.map((pair) => pair.join('='))).toContain(selector);
});

interface Workload extends KubeObject {
  spec?: { template?: KubeObject };
}

describe('a host that is prepared as docs/install.md says', () => {
  let fixture: HostFixture;
  let host: Host;
  let blocks: string[];

  /** On the user's own machine, in a folder of its own. */
  const run = (command: string): Promise<string> =>
    mustRun('sh', ['-c', command.replaceAll('HOST', host.address)], {
      cwd: folder,
      env: { PATH: `${folder}:${process.env.PATH}` },
    });
  const blockWith = (text: string): string => {
    const found = blocks.find((block) => block.includes(text));
    if (found === undefined) throw new Error(`docs/install.md has no commands with ${text}`);
    return found;
  };
  const lineWith = (text: string): string =>
    blockWith(text)
      .split('\n')
      .find((line) => line.includes(text)) ?? '';

  beforeAll(async () => {
    fixture = await startHostFixture([{ name: 'guide', platform: 'linux/arm64' }]);
    host = fixture.host('guide');
    blocks = [...(await textOf('install')).matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block]) => block ?? '');
    // Nobody is there to say yes to a new host key.
    await writeFile(path.join(folder, 'known_hosts'), `${host.address} ${host.hostKey}\n`);
    const ssh = `exec "$(PATH=\${PATH#*:} command -v ssh)" -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile='${folder}/known_hosts' -i '${folder}/admin-key' "$@"\n`;
    await writeFile(path.join(folder, 'ssh'), `#!/bin/sh\n${ssh}`);
    await chmod(path.join(folder, 'ssh'), 0o755);
    await run(blockWith('ssh-keygen -t'));
    const publicKey = (await readFile(path.join(folder, 'admin-key.pub'), 'utf8')).trim();
    await onHost(host, blockWith('useradd').replace('ssh-ed25519 AAAA… multi-platform-controller', publicKey));
  });

  afterAll(async () => {
    await fixture?.stop();
  });

  test('lets the admin in, and be root', async () => {
    expect(await run(lineWith('ssh -i ./admin-key'))).toMatch(/^uid=0\(root\)/);
  });

  test('is good for a change from the Go implementation', async () => {
    const [line = ''] = /ssh USER@HOST .*/.exec(await textOf('migrating')) ?? [];
    expect(await run(line.replace('USER', 'builder'))).toBe('good\n');
  });

  test('shows from outside the key that lies on it, as the chart takes it', async () => {
    const shown = await run(lineWith('ssh-keyscan'));
    expect(shown).toMatch(/^ssh-ed25519 [A-Za-z0-9+/]{40,}={0,2}\n$/);
    expect(shown.trim()).toBe(host.hostKey);
    expect((await textOf('hosts')).includes("`ssh-keyscan HOST 2>/dev/null | cut -d ' ' -f 2-`")).toBe(true);
  });
});
