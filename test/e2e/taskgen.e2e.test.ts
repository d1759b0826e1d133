import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import type { Step, Task, TaskSpec } from '#sandbox/task-runner/tekton-types.ts';
import { leftOnHosts, outcomeOf } from './support/builds.ts';
import { HOSTILE_PATHS, HOSTILE_VALUES } from './support/hostile.ts';
import { type BuildCluster, SHOW, endOf, remoteTask, startBuildCluster, startRun } from './support/remote-builds.ts';

const FOLDER = fileURLToPath(new URL('../../', import.meta.url));
const STOCK = readFileSync(`${FOLDER}tasks/buildah.yaml`, 'utf8');
const STOCK_REMOTE = readFileSync(`${FOLDER}tasks/buildah-remote.yaml`, 'utf8');

let cluster: BuildCluster;

beforeAll(async () => {
  cluster = await startBuildCluster([{ name: 'builder', platform: 'linux/arm64', slots: 4, diskMb: 4096 }]);
});

afterAll(async () => {
  await cluster?.stop();
});

const remote = (step: Partial<Step>, spec?: Partial<TaskSpec>): TaskSpec => remoteTask(cluster, step, spec);

const WORKSPACE: Partial<TaskSpec> = { workspaces: [{ name: 'w' }] };

describe('the stock Task', () => {
  const SOURCE = `cd /workspace/source
mkdir -p source/context/deep/er source/context/empty
cat >source/context/Dockerfile <<'DOCKERFILE'
ARG BASE
FROM $BASE AS first
ARG GREETING
COPY . /app
RUN echo "$GREETING" >/greeting && ln -s greeting /link && chmod 4711 /bin/busybox

FROM first
RUN find /app | sort >/list && rm /app/removed
ENTRYPOINT ["/bin/cat", "/greeting"]
DOCKERFILE
echo one >source/context/one
echo two >source/context/deep/er/two
echo three >source/context/removed
cp /bin/busybox source/context/big
find source -exec touch --date @1 {} +
`;
  // What makes the image is its file tree: buildah adds or leaves out a folder that it has touched, as its clock ticks.
  const LOOK = `${SHOW}
[ "\${IMAGE_APPEND_PLATFORM:-}" != true ] || IMAGE=$IMAGE-linux-arm64
cd /workspace/source
container=$(buildah from --pull-never "$IMAGE")
root=$(buildah mount "$container")
show greeting "$root/greeting"
show list "$root/list"
(cd "$root" && find . ! -lname /bin/busybox -printf '%p %y %m %U %G %l\\n' | sort && find . -type f -exec sha256sum {} + | sort) >/tmp/tree
show tree /tmp/tree
buildah inspect --type image --format '{{.OCIv1.Config}}' "$IMAGE" >/tmp/config
show config /tmp/config
jq -r '.files[].fileName' sbom.json | sort >/tmp/sbom
show sbom /tmp/sbom
sha256sum <source/context/big >/tmp/sent
sha256sum <"$root/app/big" >/tmp/built
show sent /tmp/sent
show built /tmp/built
`;
  const run = async (name: string, yaml: string, params: Record<string, string | string[]>): Promise<void> => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it is one
    const { spec } = parse(yaml) as Task;
    const { images, registry } = cluster;
    await startRun(cluster, {
      name,
      spec,
      params: {
        IMAGE: `${registry.name}/team/app:${name}`,
        CONTEXT: 'context',
        TLSVERIFY: 'false',
        SOURCE_DATE_EPOCH: '1700000000',
        BUILDER_IMAGE: images.builder,
        BUILD_ARGS: [`BASE=${images.base}`, 'GREETING=hello "you" $HOME \'n\' all'],
        ...params,
      },
      before: SOURCE,
      after: LOOK,
    });
  };

  test('builds remotely what it builds locally, and the later steps go on here', { timeout: 240_000 }, async () => {
    await run('stock-local', STOCK, {});
    await run('stock-remote', STOCK_REMOTE, {});
    await run('stock-appended', STOCK_REMOTE, { IMAGE_APPEND_PLATFORM: 'true' });
    const local = await endOf(cluster, 'stock-local');
    const remotely = await endOf(cluster, 'stock-remote');
    expect(local.log).toContain('sbom.json lists');
    expect([outcomeOf(local.taskRun), outcomeOf(remotely.taskRun)], remotely.log).toEqual(['True', 'True']);
    expect(remotely.log).toMatch(/^\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\] remote: running on u-[0-9a-f]{28}@/m);
    expect(remotely.shown).toEqual(local.shown);
    expect(remotely.shown['greeting']).toBe('hello "you" $HOME \'n\' all\n');
    expect(remotely.shown['list']).toContain('/app/deep/er/two\n');
    expect(remotely.shown['sent']).toBe(remotely.shown['built']);
    expect(remotely.results['IMAGE_DIGEST']).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(remotely.shown['tree']).toContain('./bin/busybox f 4711 0 0 \n');
    expect(remotely.results['BASE_IMAGES']).toBe(local.results['BASE_IMAGES']);
    expect(remotely.results['BASE_IMAGES']).toContain(`${cluster.images.base}@sha256:`);
    for (const secret of ['PRIVATE KEY', cluster.registry.password]) expect(remotely.log).not.toContain(secret);

    const { results, shown } = await endOf(cluster, 'stock-appended');
    expect(results['IMAGE_URL']).toBe(`${cluster.registry.name}/team/app:stock-appended-linux-arm64`);
    expect(shown).toEqual(local.shown);
    expect(await leftOnHosts(cluster.sandbox.hosts)).toEqual([]);
  });
});

test('of an image only the layers travel that the storage here does not have', { timeout: 180_000 }, async () => {
  const { images } = cluster;
  const spec = remote(
    {
      script: `mkdir context && cd context && echo new >new
printf 'FROM %s\\nCOPY new /new\\n' "$BASE" >Dockerfile
buildah bud --tls-verify=false --format docker --tag "$IMAGE" .`,
      image: images.builder,
      volumeMounts: [{ name: 'storage', mountPath: '/var/lib/containers' }],
    },
    {
      ...WORKSPACE,
      stepTemplate: {
        env: [
          { name: 'IMAGE', value: 'registry.example/team/app:1' },
          { name: 'BASE', value: images.base },
          { name: 'STORAGE_DRIVER', value: 'vfs' },
          { name: 'BUILDAH_ISOLATION', value: 'chroot' },
          { name: 'PATH', value: '/workspace/w/bin:/usr/sbin:/usr/bin:/sbin:/bin' },
        ],
      },
      volumes: [{ name: 'storage', emptyDir: {} }],
    },
  );
  await startRun(cluster, {
    name: 'layers',
    spec,
    before: `mkdir /workspace/w/bin
cat >/workspace/w/bin/rsync <<'RSYNC'
#!/bin/bash
/usr/bin/rsync "$@" || exit
[[ \${*: -1} != /var/lib/containers/* ]] || ls "\${*: -1}" >/workspace/w/came
RSYNC
chmod +x /workspace/w/bin/rsync
buildah pull --quiet --tls-verify=false "$BASE"`,
    after: `${SHOW}
show came /workspace/w/came
layers() { buildah inspect --type image --format '{{range .OCIv1.RootFS.DiffIDs}}{{println .}}{{end}}' "$1"; }
layers "$BASE" >/tmp/base
layers "$IMAGE" >/tmp/image
show base /tmp/base
show image /tmp/image
buildah images --json >/tmp/images
show images /tmp/images
cat "$(buildah mount "$(buildah from --pull-never "$IMAGE")")/new" >/tmp/new
show new /tmp/new`,
  });
  const { shown, log } = await endOf(cluster, 'layers');
  expect(shown['new'], log).toBe('new\n');
  const digests = (what: string): string[] => (shown[what] ?? '').match(/[0-9a-f]{64}/g) ?? [];
  const [base] = digests('base');
  expect(digests('image')).toEqual([base, expect.stringMatching(/^[0-9a-f]{64}$/)]);
  expect(digests('came')).toContain(digests('image')[1]);
  expect(digests('came')).not.toContain(base);
  const names = JSON.parse(shown['images'] ?? '[]').flatMap((image: { names: string[] }) => image.names);
  expect(names.toSorted()).toEqual([images.base, 'registry.example/team/app:1'].toSorted());
});

test('a script that makes no image fails, and says so', { timeout: 180_000 }, async () => {
  const spec = remote(
    {
      script: 'true',
      image: cluster.images.builder,
      env: [{ name: 'IMAGE', value: 'registry.example/team/app:1' }],
      volumeMounts: [{ name: 'storage', mountPath: '/var/lib/containers' }],
    },
    { volumes: [{ name: 'storage', emptyDir: {} }] },
  );
  await startRun(cluster, { name: 'no-image', spec });
  const { log, taskRun } = await endOf(cluster, 'no-image');
  expect(log).toMatch(/remote: error: the step's script made no image registry\.example\/team\/app:1\n$/);
  expect(outcomeOf(taskRun)).toBe('False');
});

describe('values', () => {
  test('hostile ones arrive byte for byte: variables, arguments, params, paths', { timeout: 240_000 }, async () => {
    const names = HOSTILE_VALUES.map((_, i) => `V${i}`);
    const workspaces = HOSTILE_PATHS.map((mountPath, i) => ({ name: `w${i}`, mountPath }));
    const paths = workspaces.map(({ name }, i) => ({ name: `PATH_${i}`, value: `$(workspaces.${name}.path)` }));
    const all = workspaces.map((_, i) => `"$PATH_${i}"`).join(' ');
    const spec = remote(
      {
        env: names.slice(20).map((name) => ({ name, value: `$(params.${name})` })),
        args: ['$(params.ALL[*])'],
        script: `printf '%s\\0' ${names.map((name) => `"$${name}"`).join(' ')} >/shared/variables
printf '%s\\0' "$@" >/shared/arguments
for folder in ${all}; do
  cat "$folder/in" >>/shared/read
  printf '%s\\0' "$folder" >"$folder/out"
done
pwd >/shared/pwd
cat >/shared/text <<'EOF_OF_TEXT'
$(params.TEXT)
EOF_OF_TEXT
`,
        workingDir: '$(workspaces.w0.path)',
      },
      {
        params: [...names.map((name) => ({ name })), { name: 'ALL', type: 'array' }, { name: 'TEXT' }],
        stepTemplate: {
          env: [...names.slice(0, 20).map((name) => ({ name, value: `$(params.${name})` })), ...paths],
          volumeMounts: [
            { name: 'shared', mountPath: '/shared' },
            { name: 'nested', mountPath: `${HOSTILE_PATHS[6]}/in[side]` },
          ],
        },
        volumes: [
          { name: 'shared', emptyDir: {} },
          { name: 'nested', emptyDir: {} },
        ],
        workspaces,
      },
    );
    const text = "HOST_SCRIPT\nCONTAINER_SCRIPT\n# ---- The step's own script, unchanged ----\nexit 3";
    await startRun(cluster, {
      name: 'hostile',
      spec,
      params: {
        ...Object.fromEntries(names.map((name, i) => [name, HOSTILE_VALUES[i] ?? ''])),
        ALL: [...HOSTILE_VALUES],
        TEXT: text,
      },
      before: `i=0; for folder in ${all}; do printf '%s\\n' "$i" >"$folder/in"; i=$((i + 1)); done`,
      after: `${SHOW}cat ${workspaces.map((_, i) => `"$PATH_${i}/out"`).join(' ')} >/tmp/paths
show paths /tmp/paths
for file in /shared/*; do show "\${file##*/}" "$file"; done`,
    });
    const { shown, log } = await endOf(cluster, 'hostile');
    expect(Object.keys(shown).toSorted(), log).toEqual(['arguments', 'paths', 'pwd', 'read', 'text', 'variables']);
    const list = (what: string): string[] => (shown[what] ?? '').split('\0').slice(0, -1);
    expect(HOSTILE_VALUES.length).toBeGreaterThanOrEqual(40);
    expect(list('variables')).toEqual(HOSTILE_VALUES);
    expect(list('arguments')).toEqual(HOSTILE_VALUES);
    expect(list('paths')).toEqual(HOSTILE_PATHS);
    expect(shown['read']).toBe(HOSTILE_PATHS.map((_, i) => `${i}\n`).join(''));
    expect(shown['pwd']).toBe(`${HOSTILE_PATHS[0]}\n`);
    expect(shown['text']).toBe(`${text}\n`);
  });
});

describe('a Task that builds no image', () => {
  interface Case {
    readonly step: Partial<Step>;
    readonly spec?: Partial<TaskSpec>;
    readonly outcome?: string;
    readonly log: RegExp;
    readonly results?: Record<string, string>;
  }
  const CASES: Record<string, Case> = {
    'no-first-line': {
      step: { script: 'echo one\nfalse\necho two' },
      outcome: 'False',
      log: /^one\n(?!two)[^]*the step's script ended with exit code 1 on u-/m,
    },
    'another-interpreter': {
      step: {
        script: '#!/usr/bin/env -S jq -n -r -f\n"jq says \\(1 + 1), \\($ENV.GREETING)"\n',
        env: [{ name: 'GREETING', value: "it's" }],
      },
      log: /^jq says 2, it's$/m,
    },
    'set-lines-and-arguments': {
      step: { script: '#!/bin/bash\nset -euo pipefail\nset -x\necho "$# <$1>"', args: ['a b', ''] },
      log: /^\+ echo '2 <a b>'$/m,
    },
    'no-arguments': { step: { script: 'echo "$#"' }, log: /^0$/m },
    command: { step: { command: ['printf', '<%s>'], args: ['a b', '$HOME', ''] }, log: /^<a b><\$HOME><>/m },
    'working-dir': {
      step: { script: 'pwd', workingDir: '/workspace/not there/yet' },
      log: /^\/workspace\/not there\/yet$/m,
    },
    results: {
      step: { script: 'printf \'%s\' "a  b" >"$(results.r.path)"' },
      spec: { results: [{ name: 'r' }] },
      log: /done/,
      results: { r: 'a  b' },
    },
    killed: { step: { script: 'kill -KILL $$' }, outcome: 'False', log: /exit code 137 on u-/ },
    terminated: { step: { script: 'kill -TERM $$' }, outcome: 'False', log: /exit code 143 on u-/ },
    // What ssh ends with where the connection fails.
    'exit-255': { step: { script: 'exit 255' }, outcome: 'False', log: /exit code 255 on u-/ },
    'no-such-image': {
      step: { script: 'true', image: '127.0.0.1:9/no/such:1' },
      outcome: 'False',
      log: /remote: error: cannot get the image 127\.0\.0\.1:9\/no\/such:1 on u-[^\n]*\n*$/,
    },
  };

  test('in every form that a step can have', { timeout: 240_000 }, async () => {
    for (const [name, { step, spec }] of Object.entries(CASES)) {
      await startRun(cluster, { name, spec: remote(step, spec) });
    }
    for (const [name, { outcome = 'True', log, results = {} }] of Object.entries(CASES)) {
      const end = await endOf(cluster, name);
      expect(end.log).toMatch(log);
      expect({ name, outcome: outcomeOf(end.taskRun), results: end.results }).toEqual({ name, outcome, results });
    }
  });
});
