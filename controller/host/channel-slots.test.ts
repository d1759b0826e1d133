import { describe, expect, it } from 'vitest';
import { ChannelSlots } from './channel-slots.ts';

/** Takes a slot and writes its name down when it has it, or `name: none`. */
function ask(slots: ChannelSlots, name: string, log: string[]): void {
  void slots.take().then((isMine) => log.push(isMine ? name : `${name}: none`));
}

const settle = async (): Promise<void> => await new Promise((resolve) => void setImmediate(resolve));

describe('channel slots', () => {
  it('are given in the order in which they were asked for', async () => {
    const slots = new ChannelSlots(2);
    const log: string[] = [];
    for (const name of ['a', 'b', 'c', 'd']) ask(slots, name, log);
    await settle();
    expect(log).toEqual(['a', 'b']);
    slots.giveBack();
    await settle();
    expect(log).toEqual(['a', 'b', 'c']);
    ask(slots, 'e', log);
    slots.giveBack();
    slots.giveBack();
    await settle();
    expect(log).toEqual(['a', 'b', 'c', 'd', 'e']);
  });

  it('are as many as the server allows, once it has refused one', async () => {
    const slots = new ChannelSlots(8);
    const log: string[] = [];
    for (const name of ['a', 'b', 'c', 'd']) ask(slots, name, log);
    await settle();
    for (const name of ['c', 'd']) void slots.retakeAfterRefusal().then(() => log.push(`${name} again`));
    ask(slots, 'e', log);
    await settle();
    expect([log, slots.taken]).toEqual([['a', 'b', 'c', 'd'], 2]);
    for (let i = 0; i < 3; i++) {
      slots.giveBack();
      await settle();
      expect(slots.taken).toBe(2);
    }
    expect(log.slice(4)).toEqual(['c again', 'd again', 'e']);
  });

  it('are none where the server refuses the only one', async () => {
    const slots = new ChannelSlots(8);
    await slots.take();
    expect(await slots.retakeAfterRefusal()).toBe(false);
    expect([slots.taken, slots.isClosed]).toEqual([0, false]);
  });

  it('are none once it is over, for those that wait too', async () => {
    const slots = new ChannelSlots(2);
    const log: string[] = [];
    for (const name of ['a', 'b', 'c']) ask(slots, name, log);
    void slots.retakeAfterRefusal().then((isMine) => log.push(`refused: ${isMine}`));
    slots.close();
    await settle();
    ask(slots, 'd', log);
    await settle();
    expect(log).toEqual(['a', 'b', 'refused: false', 'c: none', 'd: none']);
    slots.giveBack();
    expect(slots.taken).toBe(0);
  });
});
