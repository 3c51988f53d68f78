// SIP.js as a client that a test drives: one JSON object a line on stdin is a
// command ({"do": "call", …}), one on stdout an event ({"event": "confirmed", …}),
// in the same words as ../jssip. SIP.js itself is as published; WebSocket comes
// from ws, and a session description handler speaks SDP without media.
import fs from 'node:fs';
import readline from 'node:readline';
import WS from 'ws';
import { Inviter, Registerer, SessionState, UserAgent } from 'sip.js';

const sdp = [
  'v=0', 'o=- 1 1 IN IP4 127.0.0.1', 's=-', 't=0 0',
  'm=audio 9 UDP/TLS/RTP/SAVPF 0', 'c=IN IP4 127.0.0.1', 'a=rtpmap:0 PCMU/8000',
  'a=sendrecv', 'a=rtcp-mux', 'a=mid:0', '',
].join('\r\n');

const silence = {
  close() {},
  hasDescription: (type) => type === 'application/sdp',
  getDescription: async () => ({ body: sdp, contentType: 'application/sdp' }),
  setDescription: async () => {},
  sendDtmf: () => false,
};

let ca; // PEM that the server's certificate is checked against
let asleep = false;
let sockets = [];

globalThis.WebSocket = class extends WS {
  constructor(url, protocols) {
    if (asleep) throw new Error('the tab is asleep');
    super(url, protocols, { ca, origin: 'https://phone.invalid' });
    sockets.push(this);
    this.on('message', (data) => { if (/^(\r\n)+$/.test(String(data))) say('pong'); });
  }
};

const say = (event, more = {}) => process.stdout.write(JSON.stringify({ event, ...more }) + '\n');
const fail = (e) => say('error', { cause: String(e?.stack ?? e) });

let ua;
let registerer;
let session;

function follow(s) {
  session = s;
  let up = false;
  s.stateChange.addListener((state) => {
    if (state === SessionState.Established) {
      up = true;
      say('confirmed');
    }
    if (state === SessionState.Terminated) say(up ? 'ended' : 'failed');
  });
}

function register() {
  return registerer.register({
    requestDelegate: {
      onAccept: (r) => say('registered', { status: r.message.statusCode }),
      onReject: (r) => say('registrationFailed', { status: r.message.statusCode }),
    },
  });
}

const commands = {
  async start({ url, uri, password, cafile, instance, push }) {
    if (cafile) ca = fs.readFileSync(cafile);
    const aor = UserAgent.makeURI(uri);
    ua = new UserAgent({
      uri: aor, authorizationUsername: aor.user, authorizationPassword: password,
      transportOptions: { server: url, keepAliveInterval: 1, keepAliveDebounce: 10 },
      contactParams: { transport: 'ws', ...push },
      instanceId: instance,
      logBuiltinEnabled: false,
      reconnectionAttempts: 100, reconnectionDelay: 0.2,
      sessionDescriptionHandlerFactory: () => silence,
      delegate: {
        onConnect() { say('connected'); register().catch(fail); },
        onDisconnect() { say('disconnected'); },
        onInvite(s) {
          follow(s);
          s.progress().catch(fail);
          say('incoming', { from: s.remoteIdentity.uri.toString(), callid: s.request.callId });
        },
        onMessage(m) { say('message', { body: m.request.body }); m.accept().catch(fail); },
      },
    });
    registerer = new Registerer(ua, { expires: 300, regId: 1, instanceId: ua.instanceId });
    await ua.start();
  },
  async call({ to }) {
    const s = new Inviter(ua, UserAgent.makeURI(to));
    follow(s);
    await s.invite({ requestDelegate: { onProgress: (r) => say('progress', { status: r.message.statusCode }) } });
  },
  answer: () => session.accept(),
  hangup: () => (session.state === SessionState.Established ? session.bye() : session.cancel()),
  renegotiate: () => session.invite({
    requestDelegate: {
      onAccept: () => say('renegotiated'),
      onReject: (r) => say('renegotiateRefused', { status: r.message.statusCode }),
    },
  }),
  // The tab is frozen: its socket goes without a word, and attempts to come back
  // fail until wake. Calls stay as SIP.js knows them.
  sleep() {
    asleep = true;
    for (const s of sockets) s.terminate();
    sockets = [];
    say('asleep');
  },
  wake() { asleep = false; },
};

process.on('uncaughtException', fail);
process.on('unhandledRejection', fail);
const input = readline.createInterface({ input: process.stdin });
input.on('line', async (line) => {
  const command = JSON.parse(line);
  try {
    await commands[command.do](command);
  } catch (e) {
    fail(e);
  }
});
input.on('close', () => process.exit(0)); // the test has ended
say('ready');
