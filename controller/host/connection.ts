import { randomBytes } from 'node:crypto';
import type { Clock } from '#shared/clock.ts';
import { messageOf } from '#shared/errors.ts';
import { connect } from './connect.ts';
import { type Endpoint, HOST_ERROR, HostError } from './contract.ts';
import { noAnswer } from './failures.ts';
import type { HostKeyPolicy } from './host-key.ts';
import { type Outcome, Session } from './session.ts';
import { hostAndPort, printable } from './text.ts';

export type ConnectionState = 'disconnected' | 'connecting' | 'connected';

export interface ConnectionOptions {
  readonly endpoint: Endpoint;
  /** The admin's private key as it is now. */
  readonly adminKey: () => string | undefined;
  readonly policy: HostKeyPolicy;
  /** Gets the key that is trusted from now on, `type base64`; nothing is done on the host before it resolves. */
  readonly onFirstKey: (line: string) => Promise<void>;
  /**
   * Called in the moment in which a command is sent, however long it had to wait; throws where this process may not act any more.
   */
  readonly fence?: (() => void) | undefined;
  readonly onStateChange?: ((state: ConnectionState) => void) | undefined;
  readonly clock: Clock;
  readonly connectTimeoutMs?: number | undefined;
  readonly keepaliveIntervalMs?: number | undefined;
}

const CONNECT_TIMEOUT_MS = 10_000;
/** Two of them may stay without an answer: a dead peer is noticed after 30 s. */
const KEEPALIVE_INTERVAL_MS = 10_000;
/** A connection may end in the moment in which a command is handed to it; more often than twice it is no accident. */
const MAX_ATTEMPTS = 3;

/** One connection to a host, made when it is needed and kept. */
export class Connection {
  readonly #options: ConnectionOptions;
  #endpoint: Endpoint;
  #opening: Promise<Session> | undefined;
  #session: Session | undefined;
  #state: ConnectionState = 'disconnected';
  readonly #sessions = new Set<Session>();
  readonly #closing = new AbortController();

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#endpoint = options.endpoint;
  }

  /**
   * Runs a script for `sh` as root. It finds the beginning of its answer in `$marker`: it writes a line of it and the answer, in
   * JSON. Whatever else the admin's shell or the host prints is passed over.
   *
   * @returns the parsed answer
   * @throws HostError
   */
  async run(script: string, { timeoutMs }: { readonly timeoutMs: number }): Promise<unknown> {
    // Nothing that the host has written before, or that an account writes, can look like the answer.
    const marker = `answer-${randomBytes(16).toString('hex')}:`;
    const command = this.#endpoint.user === 'root' ? '/bin/sh -s' : 'sudo -n /bin/sh -s';
    const fence = this.#options.fence ?? ((): void => undefined);
    const input = `marker='${marker}'\n${script}`;
    for (let attempt = 1; ; attempt++) {
      const session = await this.#open();
      const outcome = await session.run({ command, input, timeoutMs, fence });
      if (outcome.kind !== 'not-started' || attempt === MAX_ATTEMPTS) return this.#read(outcome, marker, timeoutMs);
    }
  }

  /** Ends it; what is under way rejects, and so does whatever comes later. */
  close(): void {
    this.#closing.abort();
    for (const session of this.#sessions) session.destroy();
  }

  async #open(): Promise<Session> {
    if (this.#closing.signal.aborted) {
      throw new HostError(HOST_ERROR.unreachable, `the connection to ${this.#name()} is not wanted any more`);
    }
    if (this.#session?.isOpen === true) return this.#session;
    this.#opening ??= this.#connect().finally(() => (this.#opening = undefined));
    return await this.#opening;
  }

  async #connect(): Promise<Session> {
    const { adminKey, policy, clock, connectTimeoutMs, keepaliveIntervalMs } = this.#options;
    this.#enter('connecting');
    try {
      const { client, socket, firstKey } = await connect({
        endpoint: this.#endpoint,
        privateKey: adminKey(),
        policy,
        clock,
        timeoutMs: connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
        keepaliveIntervalMs: keepaliveIntervalMs ?? KEEPALIVE_INTERVAL_MS,
        signal: this.#closing.signal,
      });
      const session = this.#keep(new Session({ client, socket, clock }));
      if (firstKey !== undefined) await this.#trust(firstKey, session);
      if (!session.isOpen) throw new HostError(HOST_ERROR.unreachable, `the connection to ${this.#name()} is lost`);
      this.#session = session;
      this.#enter('connected');
      return session;
    } catch (error) {
      this.#enter('disconnected');
      throw error;
    }
  }

  #keep(session: Session): Session {
    this.#sessions.add(session);
    void session.closed.then(() => {
      this.#sessions.delete(session);
      if (this.#session !== session) return;
      this.#session = undefined;
      // Where another one is being made already, the state is that one's.
      if (this.#state === 'connected') this.#enter('disconnected');
    });
    return session;
  }

  async #trust(key: string, session: Session): Promise<void> {
    try {
      await this.#options.onFirstKey(key);
    } catch (cause) {
      session.destroy();
      const message = `the host key of ${this.#name()} could not be recorded: ${printable(messageOf(cause))}`;
      throw new HostError(HOST_ERROR.failed, message, { cause });
    }
    this.#endpoint = { ...this.#endpoint, hostKeys: [key] };
  }

  #read(outcome: Outcome, marker: string, timeoutMs: number): unknown {
    switch (outcome.kind) {
      case 'ended':
        return this.#answerIn(outcome, marker);
      case 'timeout':
        throw new HostError(HOST_ERROR.timeout, `${this.#name()} gave no answer in ${timeoutMs / 1000} s`, {
          mayHaveActed: outcome.wasSent,
        });
      case 'overflow':
        throw new HostError(HOST_ERROR.failed, `${this.#name()} writes more than can be an answer`, {
          mayHaveActed: true,
        });
      case 'refused':
        throw new HostError(HOST_ERROR.failed, `the SSH server at ${this.#name()} refuses to run any command`);
      case 'fenced': {
        const { cause } = outcome;
        throw new HostError(HOST_ERROR.failed, `nothing was done: ${printable(messageOf(cause))}`, { cause });
      }
      case 'not-started':
        throw new HostError(HOST_ERROR.unreachable, `the connection to ${this.#name()} is lost again and again`);
    }
  }

  #answerIn(outcome: Extract<Outcome, { kind: 'ended' }>, marker: string): unknown {
    const [, answer] = outcome.stdout.split(marker, 2);
    const line = answer?.split('\n', 2);
    if (line?.[0] !== undefined && line.length === 2) return parse(line[0]);
    if (outcome.exit !== undefined) throw noAnswer(outcome, this.#endpoint);
    throw new HostError(HOST_ERROR.interrupted, `the connection to ${this.#name()} was lost while a command ran`, {
      mayHaveActed: true,
    });
  }

  #enter(state: ConnectionState): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#options.onStateChange?.(state);
  }

  #name(): string {
    return hostAndPort(this.#endpoint);
  }
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw new HostError(HOST_ERROR.failed, 'the host gave an answer that cannot be read', {
      cause,
      mayHaveActed: true,
    });
  }
}
