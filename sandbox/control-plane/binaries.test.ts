import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ensureBinaries, ensureControlPlaneAssets, ensureTool } from './binaries.ts';
import { thisMachine } from './machine.ts';
import { FAKE_GO, type Home, createHome, put } from './testing.ts';

const { os, arch } = thisMachine();
const KUBE = `kube-apiserver-v1.37.2-${os}-${arch}`;
const ETCD = `etcd-v3.7.3-${os}-${arch}`;
const ARCHIVE = `envtest-v1.37.0-${os}-${arch}`;

let home: Home;

beforeEach(async () => {
  home = await createHome();
});

afterEach(async () => {
  await home.remove();
});

async function fill(folder: string, ...names: string[]): Promise<void> {
  await Promise.all(names.map(async (name) => await put(path.join(folder, name), 'from the cache')));
}

describe('kube-apiserver and etcd come', () => {
  test('from KUBEBUILDER_ASSETS before all', async () => {
    const given = path.join(home.folder, 'given');
    await fill(given, 'kube-apiserver', 'etcd');
    await fill(path.join(home.cache, KUBE), 'kube-apiserver');
    await fill(path.join(home.cache, ETCD), 'etcd');
    const env = { ...home.env, KUBEBUILDER_ASSETS: given };
    expect(await ensureBinaries({ ...home, env })).toEqual({
      kubeApiServer: path.join(given, 'kube-apiserver'),
      etcd: path.join(given, 'etcd'),
    });
  });

  test('from nowhere else where KUBEBUILDER_ASSETS lacks one', async () => {
    const given = path.join(home.folder, 'given');
    await fill(given, 'etcd');
    const env = { ...home.env, KUBEBUILDER_ASSETS: given };
    await expect(ensureBinaries({ ...home, env })).rejects.toMatchObject({
      code: 'incomplete-assets',
      message: `KUBEBUILDER_ASSETS is ${given}, but kube-apiserver and etcd are not both there: correct it or unset it`,
    });
  });

  test('from the cache, where Go put them', async () => {
    await fill(path.join(home.cache, KUBE), 'kube-apiserver');
    await fill(path.join(home.cache, ETCD), 'etcd');
    expect(await ensureBinaries(home)).toEqual({
      kubeApiServer: path.join(home.cache, KUBE, 'kube-apiserver'),
      etcd: path.join(home.cache, ETCD, 'etcd'),
    });
    expect(home.told).toEqual([]);
  });

  test('from the cache, where the archive was unpacked', async () => {
    await fill(path.join(home.cache, ARCHIVE), 'kube-apiserver', 'etcd');
    expect(await ensureBinaries(home)).toEqual({
      kubeApiServer: path.join(home.cache, ARCHIVE, 'kube-apiserver'),
      etcd: path.join(home.cache, ARCHIVE, 'etcd'),
    });
    expect(home.told).toEqual([]);
  });

  test('from Go where the network is closed', async () => {
    await home.useGo(FAKE_GO);
    const { kubeApiServer, etcd } = await ensureBinaries(home);
    expect(kubeApiServer).toBe(path.join(home.cache, KUBE, 'kube-apiserver'));
    expect(await readFile(kubeApiServer, 'utf8')).toBe('kube-apiserver\n');
    expect(etcd).toBe(path.join(home.cache, ETCD, 'etcd'));
    expect(await readFile(etcd, 'utf8')).toBe('etcd\n');
    expect(home.told).toContain('no envtest archive: github.com: the network is closed');
  });

  test.runIf(['amd64', 'arm64'].includes(arch))('from Go where the archive is not the one that is known', async () => {
    await home.useGo(FAKE_GO);
    const urls: string[] = [];
    const fetch = async (url: string): Promise<Response> => {
      urls.push(url);
      return new Response('something else');
    };
    const { etcd } = await ensureBinaries({ ...home, fetch });
    expect(await readFile(etcd, 'utf8')).toBe('etcd\n');
    expect(urls).toEqual([
      `https://github.com/kubernetes-sigs/controller-tools/releases/download/envtest-v1.37.0/${ARCHIVE}.tar.gz`,
    ]);
    expect(home.told).toContain(`no envtest archive: ${urls[0]} is not the file that it was: its sha512 sum differs`);
    expect(await readdir(home.cache)).not.toContain(ARCHIVE);
  });

  test('from nowhere: one message says why and what to do', async () => {
    await expect(ensureBinaries(home)).rejects.toMatchObject({
      code: 'no-control-plane',
      message:
        'cannot get kube-apiserver and etcd (archive: github.com: the network is closed; Go: there is no go command): ' +
        'install Go 1.26 or newer (https://go.dev/dl), or let this machine reach github.com, ' +
        'or set KUBEBUILDER_ASSETS to a folder that holds both',
    });
    expect(await readdir(home.cache)).toEqual([]);
  });
});

describe('Tekton’s resource definitions', () => {
  beforeEach(async () => {
    await fill(path.join(home.cache, KUBE), 'kube-apiserver');
    await fill(path.join(home.cache, ETCD), 'etcd');
  });

  test('come from the cache', async () => {
    const crds = path.join(home.cache, 'tekton-crds-v1.15.0', 'crds.json');
    await put(crds, '[]');
    expect((await ensureControlPlaneAssets(home)).crds).toBe(crds);
  });

  test('are refused where the module holds others', async () => {
    const module = path.join(home.folder, 'module');
    const names = ['customrun', 'pipeline', 'pipelinerun', 'resolutionrequest', 'stepaction', 'task', 'taskrun'];
    const files = [...names, 'verificationpolicy'].map((name) => `config/300-crds/300-${name}.yaml`);
    await fill(module, ...files);
    await home.useGo(`echo '{"Dir": "${module}"}'`);
    await expect(ensureControlPlaneAssets(home)).rejects.toMatchObject({
      code: 'wrong-checksum',
      message: '300-customrun.yaml of Tekton v1.15.0 has changed',
    });
  });

  test('come from nowhere: one message says why and what to do', async () => {
    await expect(ensureControlPlaneAssets(home)).rejects.toMatchObject({
      code: 'no-tekton-crds',
      message:
        "cannot get Tekton's resource definitions v1.15.0 (there is no go command; raw.githubusercontent.com: the network is " +
        'closed): install Go 1.26 or newer (https://go.dev/dl), or let this machine reach raw.githubusercontent.com',
    });
  });
});

describe('a tool', () => {
  const HELM = `helm-v4.3.1-${os}-${arch}`;

  test('is built once', async () => {
    await home.useGo(FAKE_GO);
    expect(await ensureTool('helm', home)).toBe(path.join(home.cache, HELM, 'helm'));
    expect(await ensureTool('helm', home)).toBe(path.join(home.cache, HELM, 'helm'));
    expect((await home.read('builds')).split('\n')).toHaveLength(2);
  });

  test('that cannot be built says what to install', async () => {
    await expect(ensureTool('helm', home)).rejects.toMatchObject({
      code: 'no-tool',
      message: 'cannot build helm (there is no go command): install Go 1.26 or newer (https://go.dev/dl)',
    });
  });
});
