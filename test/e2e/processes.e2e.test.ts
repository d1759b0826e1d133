import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execFile } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const ROOT = path.join(import.meta.dirname, '..', '..');

let folder: string;
/** Of a cluster where nobody listens. */
let nobody: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'mpc-processes-'));
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it listens on TCP
  const { port } = server.address() as AddressInfo;
  server.close();
  nobody = await written(
    'nobody',
    `{apiVersion: v1, kind: Config, current-context: x, contexts: [{name: x, context: {cluster: c, user: u}}],
      users: [{name: u, user: {token: a-token}}], clusters: [{name: c, cluster: {server: "https://127.0.0.1:${port}"}}]}`,
  );
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function written(name: string, text: string): Promise<string> {
  const file = path.join(folder, name);
  await writeFile(file, text);
  return file;
}

async function run(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ code: unknown; stdout: string; stderr: string }> {
  return await new Promise((resolve) => {
    const file = path.join(ROOT, program, 'main.ts');
    execFile(process.execPath, [file, ...args], { env: { HOME: folder, ...env } }, (error, stdout, stderr) => {
      resolve({ code: error?.code ?? 0, stdout, stderr });
    });
  });
}

const FREE_PORTS = ['--metrics-port', '0', '--health-port', '0'];

describe.each(['controller', 'webhook'])('the %s', (program) => {
  test('says what it takes', async () => {
    const { code, stdout } = await run(program, ['--help']);
    expect(code).toBe(0);
    for (const flag of ['kubeconfig', 'namespace', 'metrics-port', 'health-port', 'log-level'])
      expect(stdout).toContain(`--${flag} <`);
  });

  test.each<[string, string[], RegExp]>([
    ['that it does not know', ['--nope'], /^error: unknown option '--nope'\n/],
    ['with a level that is none', ['--log-level', 'loud'], /^error: option '--log-level <level>' argument 'loud' /],
    ['with a port that is none', ['--metrics-port', '99999'], /a port is a number from 0 to 65535/],
    ['with a namespace that is none', ['--namespace', ''], /a namespace is at most 63 /],
    ['with no file behind it', ['--kubeconfig', '/no/such/file'], /^no kubeconfig at \/no\/such\/file: give /],
    ['with another file behind it', ['--kubeconfig', import.meta.filename], /is not a kubeconfig/],
  ])('refuses a flag %s with one line', async (_, args, message) => {
    const { code, stdout, stderr } = await run(program, [...FREE_PORTS, ...args]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(message);
    expect(stderr.trimEnd()).not.toContain('\n');
  });

  test('takes ~/.kube/config last, also where KUBECONFIG is empty, and names what is not there', async () => {
    const { stderr } = await run(program, FREE_PORTS, { KUBECONFIG: '' });
    expect(stderr).toContain(`no kubeconfig at ${folder}/.kube/config: `);
  });
});

describe('the controller without an API server', () => {
  test.each<[string, () => { args: string[]; env: Record<string, string> }]>([
    ['named by --kubeconfig', () => ({ args: ['--kubeconfig', nobody], env: { KUBECONFIG: '/no/such/file' } })],
    ['listed in KUBECONFIG', () => ({ args: [], env: { KUBECONFIG: `/no/such/file:${nobody}` } })],
  ])('%s says in one line that nobody answers', async (_, given) => {
    const { args, env } = given();
    const { code, stdout, stderr } = await run('controller', [...FREE_PORTS, ...args], env);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^GET \/api\/v1\/namespaces\/multi-platform-controller: no answer from the API server at /);
    expect(stderr.trimEnd()).not.toContain('\n');
  });

  test.each(['0s', '999ms', 'soon'])('refuses to scan every %s', async (interval) => {
    const { code, stderr } = await run('controller', ['--scan-interval', interval]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: option '--scan-interval <duration>' argument '\w+' is invalid/);
  });
});
