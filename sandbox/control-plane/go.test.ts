import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type GoTool, buildGoTool, fetchGoModule, pinnedVersion } from './go.ts';
import { thisMachine } from './machine.ts';
import { FAKE_GO, type Home, createHome } from './testing.ts';

const ETCD: GoTool = {
  name: 'etcd',
  tools: 'etcd',
  module: 'go.etcd.io/etcd/server/v3',
  package: 'go.etcd.io/etcd/server/v3',
  firstBuild: 'a minute',
  variables: (version) => ({ 'a.b': version, 'a.c': 'x' }),
};

let home: Home;

beforeEach(async () => {
  home = await createHome();
});

afterEach(async () => {
  await home.remove();
});

describe('a pinned version', () => {
  test.each([
    ['kubernetes', 'k8s.io/kubernetes', 'v1.37.2'],
    ['etcd', 'go.etcd.io/etcd/server/v3', 'v3.7.3'],
    ['helm', 'helm.sh/helm/v4', 'v4.3.1'],
    ['tekton', 'github.com/tektoncd/pipeline', 'v1.15.0'],
  ])('in %s of %s is %s', async (tools, module, version) => {
    expect(await pinnedVersion({ tools, module })).toBe(version);
  });

  test('that is not there is an error', async () => {
    await expect(pinnedVersion({ tools: 'etcd', module: 'k8s.io/kubernetes' })).rejects.toMatchObject({
      code: 'not-pinned',
    });
  });
});

describe('building a tool', () => {
  test('gives Go the version, this machine, and the folder', async () => {
    await home.useGo(FAKE_GO);
    const env = { ...home.env, GOOS: 'windows', GOARCH: 'mips', GOWORK: '/x/go.work', GOFLAGS: '-trimpath' };
    await buildGoTool(ETCD, home.folder, { ...home, env });
    expect(await home.read('arguments')).toBe(
      `build -mod=readonly -v -ldflags=-X a.b=v3.7.3 -X a.c=x -o ${home.folder}/etcd go.etcd.io/etcd/server/v3\n`,
    );
    const environment = (await home.read('environment')).split('\n');
    const { os, arch } = thisMachine();
    expect(environment).toEqual(
      expect.arrayContaining([
        `GOOS=${os}`,
        `GOARCH=${arch}`,
        'GOWORK=off',
        'GOFLAGS=-trimpath',
        `GOTMPDIR=${home.folder}/tmp`,
      ]),
    );
    expect(await readdir(home.folder)).not.toContain('tmp');
    expect(await home.read('builds')).toMatch(/\/sandbox\/tools\/etcd\n$/);
    expect(await readFile(path.join(home.folder, 'etcd'), 'utf8')).toBe('etcd\n');
  });

  test('that fails quotes what Go said last', async () => {
    await home.useGo('for i in 1 2 3 4; do echo "line $i" >&2; done; exit 1');
    await expect(buildGoTool(ETCD, home.folder, home)).rejects.toMatchObject({
      code: 'go-failed',
      message: 'go list: line 2 | line 3 | line 4',
    });
  });

  test('without Go is an error of its own', async () => {
    await expect(buildGoTool(ETCD, home.folder, home)).rejects.toMatchObject({ code: 'no-go' });
  });
});

describe('fetching a module', () => {
  const TEKTON = { tools: 'tekton', module: 'github.com/tektoncd/pipeline' };

  test('gives its folder', async () => {
    await home.useGo('echo "{\\"Dir\\": \\"/modules/$4\\"}"');
    expect(await fetchGoModule(TEKTON, home)).toBe('/modules/github.com/tektoncd/pipeline');
  });

  test('that fails quotes the reason, which Go prints as JSON', async () => {
    await home.useGo('printf \'{\\n\\t"Error": "410 Gone"\\n}\\n\'; exit 1');
    await expect(fetchGoModule(TEKTON, home)).rejects.toThrow('go mod: { "Error": "410 Gone" }');
  });
});
