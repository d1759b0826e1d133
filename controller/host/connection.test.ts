import { describe, expect, it, vi } from 'vitest';
import { TIMEOUT_MS, echo, errorOf, setUp } from './connection-test-setup.ts';
import { HOST_ERROR } from './contract.ts';
import type { Request } from './stand-in-ssh-server.ts';

describe('a command', () => {
  it('gets its script on standard input of a shell and gives the answer', async () => {
    const { run, requests } = await setUp();
    expect(await run('echo hello')).toBe('echo hello');
    expect(requests).toMatchObject([
      { command: '/bin/sh -s', script: expect.stringMatching(/^marker='.+'\necho hello$/) },
    ]);
  });

  it('is run by sudo, which must not ask, where the admin is not root', async () => {
    const { run, requests } = await setUp({}, { user: 'builder' });
    await run();
    expect(requests[0]?.command).toBe('sudo -n /bin/sh -s');
  });

  it('has an answer that is found among whatever else is printed', async () => {
    const { run } = await setUp({
      onRequest: ({ write, marker, exit }) => {
        write('*** Authorised use only ***\n{"ok":false}\nno line end');
        write(`\n${marker}{"ok":`);
        write('true}\nlogout\n');
        exit(1);
      },
    });
    expect(await run()).toEqual({ ok: true });
  });

  it('has another marker each time', async () => {
    const { run, requests } = await setUp();
    await run();
    await run();
    expect(new Set(requests.map(({ marker }) => marker)).size).toBe(2);
  });

  it.each([
    ['an answer that is cut off', ({ write, marker, exit }: Request) => (write(`${marker}{"ok":`), exit(0))],
    ['an answer that is no JSON', ({ write, marker, exit }: Request) => (write(`${marker}oops\n`), exit(0))],
    ['no answer', ({ write, exit }: Request) => (write('This account is not available.\n', 'stderr'), exit(1))],
  ])('fails for %s', async (_, onRequest) => {
    const { run } = await setUp({ onRequest });
    expect(await errorOf(run())).toMatchObject({ code: HOST_ERROR.failed, mayHaveActed: true });
  });

  it('fails with what the host said last', async () => {
    const { run } = await setUp({
      onRequest: ({ write, exit }) => (write('first\nThis account is \u001b[1mnot\tavailable.\n', 'stderr'), exit(1)),
    });
    expect((await errorOf(run())).message).toBe(
      "the host's shell gave no answer (exit code 1): This account is [1mnot available.",
    );
  });

  it('fails for an endless answer', async () => {
    const { run } = await setUp({ onRequest: ({ write }) => write('x'.repeat(3 * 1024 * 1024)) });
    expect(await errorOf(run())).toMatchObject({ code: HOST_ERROR.failed, mayHaveActed: true });
  });

  it.each([
    'sudo: a password is required',
    'sudo: a terminal is required to read the password',
    'bash: line 1: sudo: command not found',
    'fish: Unknown command: sudo',
  ])('fails for an admin without sudo: %s', async (text) => {
    const onRequest = ({ write, exit }: Request): void => (write(`${text}\n`, 'stderr'), exit(1));
    const { run } = await setUp({ onRequest }, { user: 'builder' });
    const message = `the admin "builder" may not run commands as root with "sudo -n": ${text}`;
    expect(await errorOf(run())).toMatchObject({ code: HOST_ERROR.noSudo, message, mayHaveActed: false });
  });
});

describe('the connection', () => {
  it('is made when it is needed, and once', async () => {
    const { run, server, states } = await setUp();
    expect([server.connections, states]).toEqual([0, []]);
    await Promise.all([run(), run(), run()]);
    await run();
    expect([server.connections, states]).toEqual([1, ['connecting', 'connected']]);
  });

  it('is made again after it was lost', async () => {
    const { run, server, states } = await setUp();
    await run();
    server.cut();
    await vi.waitFor(() => expect(states.at(-1)).toBe('disconnected'));
    expect(await run('again')).toBe('again');
    expect(server.connections).toBe(2);
    expect(states).toEqual(['connecting', 'connected', 'disconnected', 'connecting', 'connected']);
  });

  it('says that it was lost while a command ran', async () => {
    const { run, server, requests } = await setUp({ onRequest: () => undefined });
    const work = errorOf(run());
    await vi.waitFor(() => expect(requests).toHaveLength(1));
    server.cut();
    expect(await work).toMatchObject({ code: HOST_ERROR.interrupted, mayHaveActed: true });
  });

  it('that is closed ends what is under way, and refuses what comes later', async () => {
    const { run, connection, requests } = await setUp({ onRequest: () => undefined });
    const work = errorOf(run());
    await vi.waitFor(() => expect(requests).toHaveLength(1));
    connection.close();
    expect(await work).toMatchObject({ code: HOST_ERROR.interrupted });
    expect(await errorOf(run())).toMatchObject({ code: HOST_ERROR.unreachable, mayHaveActed: false });
  });

  it('that is closed while it is being made fails', async () => {
    const { run, connection, server } = await setUp();
    const work = errorOf(run());
    connection.close();
    expect(await work).toMatchObject({ code: HOST_ERROR.unreachable });
    expect(server.connections).toBe(0);
  });

  it('carries at most eight commands at the same time, first come, first served', async () => {
    const waiting: Request[] = [];
    const { run, server, requests } = await setUp({ onRequest: (request) => waiting.push(request) });
    const work = Array.from({ length: 20 }, async (_, i) => await run(`${i}`));
    while (requests.length < 20 || waiting.length > 0) {
      await vi.waitFor(() => expect(waiting.length).toBeGreaterThan(0));
      const next = waiting.shift();
      if (next !== undefined) echo(next);
    }
    expect(await Promise.all(work)).toEqual(Array.from({ length: 20 }, (_, i) => `${i}`));
    expect(requests.map(({ script }) => Number(script.split('\n').at(-1)))).toEqual(
      Array.from({ length: 20 }, (_, i) => i),
    );
    expect(server.maxOpen).toBe(8);
    expect(server.connections).toBe(1);
  });

  it('makes do with a server that allows two', async () => {
    const { run, server } = await setUp({ maxSessions: 2 });
    const work = Array.from({ length: 20 }, async (_, i) => await run(`${i}`));
    expect(await Promise.all(work)).toEqual(Array.from({ length: 20 }, (_, i) => `${i}`));
    expect([server.maxOpen, server.connections]).toEqual([2, 1]);
  });

  it('fails on a server that allows none', async () => {
    const { run } = await setUp({ maxSessions: 0 });
    expect(await errorOf(run())).toMatchObject({ code: HOST_ERROR.failed, mayHaveActed: false });
  });
});

describe('the fence', () => {
  it('is asked when the script is sent, also after a long wait', async () => {
    const waiting: Request[] = [];
    let isLeader = true;
    const fence = (): void => {
      if (!isLeader) throw new Error('another one leads');
    };
    const { run, requests } = await setUp({ onRequest: (request) => waiting.push(request) }, { fence });
    const work = Array.from({ length: 9 }, async () => await run());
    await vi.waitFor(() => expect(requests).toHaveLength(8));
    isLeader = false;
    waiting.forEach(echo);
    expect(await errorOf(work[8] ?? run())).toMatchObject({
      code: HOST_ERROR.failed,
      message: 'nothing was done: another one leads',
      mayHaveActed: false,
    });
    expect(await Promise.all(work.slice(0, 8))).toHaveLength(8);
    expect(requests.map(({ script }) => script).filter((script) => script !== '')).toHaveLength(8);
    isLeader = true;
    const next = run('next');
    await vi.waitFor(() => expect(waiting.at(-1)?.script).toMatch(/next$/));
    waiting.slice(-1).forEach(echo);
    expect(await next).toBe('next');
  });
});

describe('a command that takes too long', () => {
  it('fails, and the next one gets another connection', async () => {
    const { run, clock, requests, server } = await setUp({
      onRequest: (request) => (request.connection === 1 ? undefined : echo(request)),
    });
    const work = errorOf(run());
    await vi.waitFor(() => expect(requests).toHaveLength(1));
    clock.step(TIMEOUT_MS);
    expect(await work).toMatchObject({ code: HOST_ERROR.timeout, mayHaveActed: true });
    expect(await run('next')).toBe('next');
    expect(server.connections).toBe(2);
  });

  it('does not end the others on its connection', async () => {
    const slow: Request[] = [];
    const { run, clock, requests } = await setUp({
      onRequest: (request) => (request.script.endsWith('hang') ? undefined : slow.push(request)),
    });
    const hung = errorOf(run('hang'));
    await vi.waitFor(() => expect(requests).toHaveLength(1));
    clock.step(TIMEOUT_MS - 1);
    const other = run('slow');
    await vi.waitFor(() => expect(slow).toHaveLength(1));
    clock.step(1);
    expect(await hung).toMatchObject({ code: HOST_ERROR.timeout });
    slow.forEach(echo);
    expect(await other).toBe('slow');
  });

  it('lets those that wait for a channel go on elsewhere', async () => {
    const { run, clock, requests } = await setUp({
      onRequest: (request) => (request.script.endsWith('hang') ? undefined : echo(request)),
    });
    const hung = Array.from({ length: 8 }, async () => await errorOf(run('hang')));
    await vi.waitFor(() => expect(requests).toHaveLength(8));
    const waiting = run('waited');
    clock.step(TIMEOUT_MS);
    expect(await waiting).toBe('waited');
    expect(await Promise.all(hung)).toMatchObject(Array.from({ length: 8 }, () => ({ code: HOST_ERROR.timeout })));
  });
});
