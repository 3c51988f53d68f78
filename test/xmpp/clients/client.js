// An XMPP library as a client that a test drives: one JSON object a line on
// stdin is a command ({"do": "send", …}), one on stdout an event ({"event":
// "message", …}). The libraries are as published; WebSocket comes from ws.
import readline from 'node:readline';
import { WebSocket } from 'ws';

const sockets = [];
globalThis.WebSocket = class extends WebSocket {
  constructor(...args) {
    super(...args);
    sockets.push(this);
  }
};

const tell = (event, more = {}) => process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);

// xmppJS drives @xmpp/client.
async function xmppJS({ url, jid, password, resource }) {
  const { client, xml } = await import('@xmpp/client');
  const [username, domain] = jid.split('@');
  const xmpp = client({ service: url, domain, username, password, resource });
  xmpp.reconnect.delay = 100;
  xmpp.on('error', (err) => tell('error', { text: String(err) }));
  // It is "online" before it has sent <enable/>, and would count what comes then.
  xmpp.on('nonza', async (nonza) => {
    if (!nonza.is('enabled')) return;
    await xmpp.send(xml('presence'));
    tell('online', { jid: String(xmpp.jid) });
  });
  xmpp.streamManagement.on('resumed', () => tell('resumed'));
  xmpp.on('stanza', (stanza) => {
    if (stanza.is('message') && stanza.getChildText('body') !== null) {
      tell('message', { from: stanza.attrs.from, body: stanza.getChildText('body'), xml: String(stanza) });
    }
  });
  xmpp.start().catch((err) => tell('error', { text: String(err) }));
  return {
    send: ({ to, body }) => xmpp.send(xml('message', { to, type: 'chat' }, xml('body', {}, body))),
    roster: async () => {
      const query = await xmpp.iqCaller.get(xml('query', 'jabber:iq:roster'));
      tell('roster', { jids: query.getChildren('item').map((i) => i.attrs.jid) });
    },
    cut: () => sockets.at(-1).terminate(),
    stop: () => xmpp.stop(),
  };
}

// stanzaIO drives stanza. Its autoReconnect resumes with XEP-0198.
async function stanzaIO({ url, jid, password, resource }) {
  const XMPP = await import('stanza');
  const client = XMPP.createClient({
    jid, password, resource, transports: { websocket: url, bosh: false }, autoReconnect: true,
  });
  client.on('session:started', () => {
    client.sendPresence();
    tell('online', { jid: client.jid });
  });
  client.on('stream:management:resumed', () => tell('resumed'));
  client.on('message', (m) => m.body !== undefined && tell('message', { from: m.from, body: m.body }));
  client.on('stream:error', (err) => tell('error', { text: JSON.stringify(err) }));
  client.on('auth:failed', () => tell('error', { text: 'auth:failed' }));
  client.connect();
  return {
    send: ({ to, body }) => client.sendMessage({ to, body, type: 'chat' }),
    roster: async () => tell('roster', { jids: (await client.getRoster()).items.map((i) => i.jid) }),
    cut: () => client.transport.socket.terminate(),
    stop: () => client.disconnect(),
  };
}

const libraries = { '@xmpp/client': xmppJS, stanza: stanzaIO };
let driver;
const lines = readline.createInterface({ input: process.stdin });
lines.on('close', () => process.exit(0));
lines.on('line', async (line) => {
  const { do: what, ...args } = JSON.parse(line);
  try {
    if (what === 'start') driver = await libraries[args.library](args);
    else await driver[what](args);
  } catch (err) {
    tell('error', { text: `${what}: ${err?.stack ?? JSON.stringify(err)}` });
  }
});
tell('ready');
