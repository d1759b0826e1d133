import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { type Observed, unseen } from './observed.ts';
import { createScreen } from './screen.ts';
import { render, type ViewState } from './view.ts';

function run(name: string, fields: Partial<Observed>): Observed {
  return { ...unseen({ name, platform: 'linux/arm64', expectation: 'built' }), ...fields };
}

const state: ViewState = {
  seconds: 12.6,
  hosts: [
    { name: 'arm64-1', platform: 'linux/arm64', slots: 2, accounts: 1 },
    { name: 's390x-1', platform: 'linux/s390x', slots: 1, accounts: 0 },
  ],
  taskRuns: [
    run('a', { stage: 'running', host: 'arm64-1' }),
    run('b', { stage: 'queued' }),
    run('c', { stage: 'queued' }),
    run('d', { stage: 'released', host: 'arm64-1' }),
  ],
  events: ['first', 'second'],
};

describe('the live picture', () => {
  it('shows hosts, slots, queues and TaskRuns', () => {
    const lines = render(state, 100).map((line) => stripVTControlCharacters(line).trimEnd());
    expect(lines).toEqual([
      '1 of 4 TaskRuns finished after 13 s',
      '',
      'Hosts',
      '  arm64-1  linux/arm64  ●○  1 account   a',
      '  s390x-1  linux/s390x  ○  0 accounts',
      'Queue',
      '  linux/arm64: b c',
      '  linux/s390x: –',
      'TaskRuns',
      '  0 starting, 2 queued, 0 getting an account, 1 running, 0 being cleaned up',
      '',
      'first',
      'second',
    ]);
  });

  it('is never wider than the terminal', () => {
    const long = { ...state, events: ['x'.repeat(500)], taskRuns: [run('y'.repeat(300), { stage: 'queued' })] };
    const widths = render(long, 40).map((line) => stripVTControlCharacters(line).length);
    expect(Math.max(...widths)).toBe(40);
  });
});

describe('the screen', () => {
  function shown(terminal: { isTTY: boolean; rows?: number }, env: NodeJS.ProcessEnv): string {
    let text = '';
    const screen = createScreen({ ...terminal, columns: 80, write: (part) => (text += part) }, env);
    screen.event('event');
    screen.draw(() => ['one', 'two']);
    screen.draw(() => ['three']);
    screen.close();
    screen.close();
    return text;
  }

  it.each<[string, boolean, NodeJS.ProcessEnv]>([
    ['is not a terminal', false, {}],
    ['is to have no colour', true, { NO_COLOR: '1' }],
    ['is dumb', true, { TERM: 'dumb' }],
  ])('gives plain lines where the output %s', (_, isTTY, env) => {
    expect(shown({ isTTY }, env)).toBe('event\n');
  });

  it('draws over the last picture and gives the cursor back', () => {
    const text = shown({ isTTY: true }, { TERM: 'xterm' }).replaceAll('\u001B[', '^');
    expect(text).toBe('^?25lone^K\ntwo^K\n^J^2A\rthree^K\n^J^?25h');
  });

  it('draws no more lines than fit', () => {
    expect(stripVTControlCharacters(shown({ isTTY: true, rows: 2 }, {}))).toBe('one\n\rthree\n');
  });
});
