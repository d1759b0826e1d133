import type { Socket } from 'node:net';
import type { Client, ClientChannel } from 'ssh2';
import type { Clock } from '#shared/clock.ts';
import { ChannelSlots } from './channel-slots.ts';
import { withinTime } from './time-limit.ts';

/** Sshd_config(5): MaxSessions is 10 where nobody sets it. */
const MAX_CHANNELS = 8;
const MAX_STDOUT_BYTES = 2 * 1024 * 1024;
const MAX_STDERR_BYTES = 16 * 1024;

export interface Command {
  readonly command: string;
  /** For its standard input. */
  readonly input: string;
  readonly timeoutMs: number;
  /** Asked in the moment in which the input is sent; throws where this process may not act any more. */
  readonly fence: () => void;
}

export interface Output {
  /** `exit code 1`, `signal SIGKILL`; undefined where the connection was lost before. */
  readonly exit: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * - `ended`: the command ended, or its channel did.
 * - `timeout`: it took too long; what it does on the host goes on, unseen.
 * - `overflow`: it wrote more than we read.
 * - `not-started`: nothing reached the host, because this connection is at its end.
 * - `refused`: nothing reached the host, which gives us no channel at all.
 * - `fenced`: nothing reached the host, since the fence threw.
 */
export type Outcome =
  | ({ readonly kind: 'ended' } & Output)
  | { readonly kind: 'timeout'; readonly wasSent: boolean }
  | { readonly kind: 'fenced'; readonly cause: unknown }
  | { readonly kind: 'overflow' | 'not-started' | 'refused' };

/** What runs over one connection. */
export class Session {
  readonly #client: Client;
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #slots = new ChannelSlots(MAX_CHANNELS);
  /** Resolves when the connection is gone, for whatever reason. */
  readonly closed: Promise<void>;

  constructor({ client, socket, clock }: { client: Client; socket: Socket; clock: Clock }) {
    this.#client = client;
    this.#socket = socket;
    this.#clock = clock;
    this.closed = new Promise<void>((resolve) => {
      if (socket.destroyed) resolve();
      client.once('close', () => resolve());
    }).then(() => this.#slots.close());
  }

  /** False once no new command is taken; those under way go on. */
  get isOpen(): boolean {
    return !this.#slots.isClosed && !this.#socket.destroyed;
  }

  async run(command: Command): Promise<Outcome> {
    let hasSlot = await this.#slots.take();
    while (hasSlot) {
      const outcome = await this.#attempt(command);
      if (outcome.kind !== 'refused') {
        this.#slots.giveBack();
        this.#endWhenIdle();
        return outcome;
      }
      hasSlot = await this.#slots.retakeAfterRefusal();
    }
    this.#endWhenIdle();
    return { kind: this.isOpen ? 'refused' : 'not-started' };
  }

  /** Takes no new commands; the connection ends with the last of those under way. */
  retire(): void {
    this.#slots.close();
    this.#endWhenIdle();
  }

  /** Ends the connection at once. */
  destroy(): void {
    this.#slots.close();
    this.#client.end();
    // A dead peer would never answer the good-bye.
    this.#socket.destroySoon();
  }

  #endWhenIdle(): void {
    if (this.#slots.isClosed && this.#slots.taken === 0) this.destroy();
  }

  async #attempt(command: Command): Promise<Outcome> {
    const execution = execute(this.#client, command);
    const timeout: { outcome?: Outcome } = {};
    const late = (): Error => {
      // Whatever hung may be the whole host: nobody else shall wait on this connection.
      timeout.outcome = { kind: 'timeout', wasSent: execution.stop() };
      this.retire();
      return new Error('time is up');
    };
    return await withinTime(execution.outcome, { clock: this.#clock, ms: command.timeoutMs, late }).catch(
      () => timeout.outcome ?? { kind: 'not-started' as const },
    );
  }
}

interface Execution {
  /** Never rejects. */
  readonly outcome: Promise<Outcome>;
  /** Lets go of it; returns whether the host has got the input. */
  stop(): boolean;
}

function execute(client: Client, { command, input, fence }: Command): Execution {
  let channel: ClientChannel | undefined;
  let isStopped = false;
  const outcome = new Promise<Outcome>((resolve) => {
    const onOpen = (error: Error | undefined, opened: ClientChannel): void => {
      if (error !== undefined) return resolve({ kind: isRefusal(error) ? 'refused' : 'not-started' });
      if (isStopped) return opened.close();
      try {
        fence();
      } catch (cause) {
        opened.close();
        return resolve({ kind: 'fenced', cause });
      }
      channel = opened;
      collect(opened, resolve);
      opened.end(input);
    };
    try {
      client.exec(command, onOpen);
    } catch {
      // "Not connected": its end has not been noticed yet.
      resolve({ kind: 'not-started' });
    }
  });
  const stop = (): boolean => {
    isStopped = true;
    channel?.close();
    return channel !== undefined;
  };
  return { outcome, stop };
}

/** RFC 4254, 5.1: the server says why it opens no channel. A lost connection has no such reason. */
function isRefusal(error: Error): boolean {
  return 'reason' in error && typeof error.reason === 'number';
}

function collect(channel: ClientChannel, resolve: (outcome: Outcome) => void): void {
  const stdout: Buffer[] = [];
  let stdoutBytes = 0;
  let stderr = Buffer.alloc(0);
  let exit: string | undefined;
  channel.on('error', () => undefined);
  channel.on('data', (chunk: Buffer) => {
    stdoutBytes += chunk.length;
    if (stdoutBytes <= MAX_STDOUT_BYTES) return void stdout.push(chunk);
    channel.close();
    resolve({ kind: 'overflow' });
  });
  channel.stderr.on('data', (chunk: Buffer) => {
    stderr = Buffer.concat([stderr, chunk]).subarray(-MAX_STDERR_BYTES);
  });
  channel.on('exit', (code: number | null, signal?: string) => {
    exit = code === null ? `signal ${signal}` : `exit code ${code}`;
  });
  channel.on('close', () => {
    resolve({ kind: 'ended', exit, stdout: Buffer.concat(stdout).toString(), stderr: stderr.toString() });
  });
}
