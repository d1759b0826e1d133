import { expect, test } from 'vitest';
import { hostConfigData } from './host-config.ts';

test('hosts are listed with their slots, port and pinned key', () => {
  const host = {
    name: 'arm64-1',
    address: '10.0.0.1',
    port: 2222,
    admin: 'builder',
    platform: 'linux/arm64',
    hostKey: 'ssh-ed25519 AAAA',
  };
  expect(hostConfigData([{ host, slots: 4, secret: 'key' }], ['linux/x86_64', 'local'])).toEqual({
    'host.arm64-1.address': '10.0.0.1',
    'host.arm64-1.user': 'builder',
    'host.arm64-1.platform': 'linux/arm64',
    'host.arm64-1.secret': 'key',
    'host.arm64-1.concurrency': '4',
    'host.arm64-1.port': '2222',
    'host.arm64-1.host-key': 'ssh-ed25519 AAAA',
    'local-platforms': 'linux/x86_64,local',
  });
  expect(hostConfigData([])).toEqual({});
});
