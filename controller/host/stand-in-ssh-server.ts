import { once } from 'node:events';
import { type Socket, createServer } from 'node:net';
import ssh2 from 'ssh2';
import type { Clock } from '#shared/clock.ts';
import type { Endpoint } from './contract.ts';
import { type KeyPair, generateKeyPair } from './keys.ts';

/** One command that a client asked for. */
export interface Request {
  /** Counts the connections from 1. */
  readonly connection: number;
  readonly command: string;
  /** What came over standard input. */
  readonly script: string;
  readonly marker: string;
  /** Writes it, then ends the command well. */
  readonly answer: (json: unknown) => void;
  /** Writes to standard output or standard error as it is, without ending anything. */
  readonly write: (text: string, where?: 'stdout' | 'stderr') => void;
  readonly exit: (code: number) => void;
}

export interface StandInOptions {
  /** Called when all of the script is there. */
  readonly onRequest: (request: Request) => void;
  readonly hostKey?: KeyPair;
  /** Channels that are open at the same time on one connection. Default: as many as asked for. */
  readonly maxSessions?: number;
  /** Default: everybody is let in. */
  readonly refusesKeys?: boolean;
  /** Called for each client that has shown its key. */
  readonly onLogin?: () => void;
}

/** An SSH server in this process that runs nothing: the test answers in its place. */
export interface StandInSshServer {
  readonly endpoint: Endpoint;
  readonly hostKey: KeyPair;
  /** How many connections there were. */
  readonly connections: number;
  /** The most channels that were ever open at the same time on one connection. */
  readonly maxOpen: number;
  /** Cuts every connection. */
  cut(): void;
  stop(): Promise<void>;
}

export async function startStandInSshServer(options: StandInOptions): Promise<StandInSshServer> {
  const hostKey = options.hostKey ?? (await generateKeyPair('ed25519'));
  const sockets = new Set<Socket>();
  const counts = { connections: 0, maxOpen: 0 };
  const ssh = new ssh2.Server({ hostKeys: [hostKey.privateKey] }, (client) => {
    const connection = ++counts.connections;
    const open = { channels: 0 };
    client.on('error', () => undefined);
    client.on('authentication', (context) => {
      if (context.method !== 'publickey' || options.refusesKeys === true) return context.reject();
      options.onLogin?.();
      context.accept();
    });
    client.on('session', (accept, reject) => {
      if (open.channels >= (options.maxSessions ?? Infinity)) return reject();
      open.channels++;
      counts.maxOpen = Math.max(counts.maxOpen, open.channels);
      accept().on('exec', (acceptExec, _rejectExec, { command }) => {
        serve(acceptExec(), { connection, command, onRequest: options.onRequest, onEnd: () => open.channels-- });
      });
    });
  });
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    ssh.injectSocket(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
  const cut = (): void => sockets.forEach((socket) => socket.destroy());
  return {
    endpoint: { address: '127.0.0.1', port, user: 'root', secret: 'host-key', hostKeys: [hostKey.publicKey] },
    hostKey,
    get connections() {
      return counts.connections;
    },
    get maxOpen() {
      return counts.maxOpen;
    },
    cut,
    stop: async () => {
      cut();
      const closed = once(server, 'close');
      server.close();
      await closed;
    },
  };
}

interface Serving {
  readonly connection: number;
  readonly command: string;
  readonly onRequest: (request: Request) => void;
  readonly onEnd: () => void;
}

function serve(channel: ssh2.ServerChannel, { connection, command, onRequest, onEnd }: Serving): void {
  const chunks: Buffer[] = [];
  channel.on('error', () => undefined);
  channel.once('close', onEnd);
  channel.on('data', (chunk: Buffer) => chunks.push(chunk));
  channel.once('end', () => {
    const script = Buffer.concat(chunks).toString();
    const marker = /^marker='(?<marker>[^']*)'/.exec(script)?.groups?.['marker'] ?? '';
    const write = (text: string, where: 'stdout' | 'stderr' = 'stdout'): void => void channel[where].write(text);
    const exit = (code: number): void => {
      channel.exit(code);
      channel.end();
    };
    const answer = (json: unknown): void => {
      write(`\n${marker}${JSON.stringify(json)}\n`);
      exit(0);
    };
    onRequest({ connection, command, script, marker, answer, write, exit });
  });
}

/** A clock that stands still until it is told to go on. */
export interface SteppedClock extends Clock {
  step(ms: number): void;
}

export function createSteppedClock(): SteppedClock {
  let now = 1_700_000_000_000;
  const sleepers = new Set<{ readonly at: number; readonly wake: () => void }>();
  return {
    now: () => now,
    sleep: async (ms, signal) =>
      await new Promise((resolve) => {
        const sleeper = { at: now + ms, wake: resolve };
        sleepers.add(sleeper);
        signal?.addEventListener('abort', () => {
          sleepers.delete(sleeper);
          resolve();
        });
      }),
    step: (ms) => {
      now += ms;
      for (const sleeper of sleepers) {
        if (sleeper.at > now) continue;
        sleepers.delete(sleeper);
        sleeper.wake();
      }
    },
  };
}
