// JsSIP as a client that a test drives: one JSON object a line on stdin is a
// command ({"do": "call", …}), one on stdout an event ({"event": "accepted", …}).
// JsSIP itself is as published; the browser around it is what is made up here:
// WebSocket comes from ws, and RTCPeerConnection speaks SDP without media.
'use strict';

const readline = require('node:readline');
const fs = require('node:fs');
const WS = require('ws');

const offer = [
  'v=0', 'o=- 1 1 IN IP4 127.0.0.1', 's=-', 't=0 0',
  'm=audio 9 UDP/TLS/RTP/SAVPF 0', 'c=IN IP4 127.0.0.1', 'a=rtpmap:0 PCMU/8000',
  'a=sendrecv', 'a=rtcp-mux', 'a=mid:0', '',
].join('\r\n');

class PeerConnection extends EventTarget {
  signalingState = 'stable';
  iceGatheringState = 'complete';
  iceConnectionState = 'connected';
  localDescription = null;
  remoteDescription = null;
  addTrack() {}
  getSenders() { return []; }
  close() { this.signalingState = 'closed'; }
  async createOffer() { return { type: 'offer', sdp: offer }; }
  async createAnswer() { return { type: 'answer', sdp: offer }; }
  async setLocalDescription(d) {
    this.localDescription = d;
    this.signalingState = d.type === 'offer' ? 'have-local-offer' : 'stable';
  }
  async setRemoteDescription(d) {
    this.remoteDescription = d;
    this.signalingState = d.type === 'offer' ? 'have-remote-offer' : 'stable';
  }
}

class SessionDescription {
  constructor({ type, sdp }) { this.type = type; this.sdp = sdp; }
}

let ca; // PEM that the server's certificate is checked against
let asleep = false;
let sockets = [];

class Socket extends WS {
  constructor(url, protocols) {
    if (asleep) throw new Error('the tab is asleep');
    super(url, protocols, { ca, origin: 'https://phone.invalid' });
    sockets.push(this);
  }
}

const define = (name, value) => Object.defineProperty(globalThis, name, { value, configurable: true });
define('window', globalThis);
define('RTCPeerConnection', PeerConnection);
define('RTCSessionDescription', SessionDescription);
define('WebSocket', Socket);

const JsSIP = require('jssip');

const stream = { getTracks: () => [], getAudioTracks: () => [], getVideoTracks: () => [] };
const media = { mediaStream: stream, sessionTimersExpires: 120 };
const say = (event, more = {}) => process.stdout.write(JSON.stringify({ event, ...more }) + '\n');

let ua;
let session;

function follow(s, incoming) {
  session = s;
  const told = (name) => (e = {}) => say(name, {
    originator: e.originator, cause: e.cause, status: e.response?.status_code ?? 0,
    reason: e.message?.getHeader?.('Reason') ?? '',
  });
  for (const name of ['progress', 'accepted', 'confirmed', 'ended', 'failed']) s.on(name, told(name));
  s.on('reinvite', (e) => say('reinvite', { callid: e.request.call_id }));
  if (incoming) say('incoming', { from: s.remote_identity.uri.toString(), callid: s._request.call_id });
}

const commands = {
  start({ url, uri, password, cafile, instance, push }) {
    if (cafile) ca = fs.readFileSync(cafile);
    // JsSIP puts URI parameters into its contact only where it is given whole.
    const name = Math.random().toString(36).slice(2, 12);
    const params = Object.entries(push ?? {}).map(([k, v]) => `;${k}=${v}`).join('');
    ua = new JsSIP.UA({
      ...(push && { contact_uri: `sip:${name}@${name}.invalid;transport=ws${params}` }),
      sockets: [new JsSIP.WebSocketInterface(url)],
      uri, password, instance_id: instance, register: true, register_expires: 300,
      connection_recovery_min_interval: 1, connection_recovery_max_interval: 1,
    });
    ua.on('connected', () => say('connected'));
    ua.on('disconnected', (e) => say('disconnected', { code: e.code ?? 0 }));
    ua.on('registered', (e) => say('registered', { status: e.response.status_code }));
    ua.on('registrationFailed', (e) => say('registrationFailed', { cause: e.cause, status: e.response?.status_code ?? 0 }));
    ua.on('newRTCSession', (e) => follow(e.session, e.originator === 'remote'));
    ua.on('newMessage', (e) => { if (e.originator === 'remote') say('message', { body: e.request.body }); });
    ua.start();
  },
  register() { ua.register(); },
  clientState({ state }) {
    ua.registrator().setExtraHeaders([`Client-State: ${state}`]);
    ua.register();
  },
  call({ to }) { ua.call(to, media); },
  answer() { session.answer(media); },
  hangup() { session.terminate(); },
  renegotiate() { say(session.renegotiate({}, () => say('renegotiated')) ? 'renegotiating' : 'renegotiateRefused'); },
  message({ to, body }) {
    ua.sendMessage(to, body, {
      eventHandlers: {
        succeeded: () => say('messageSent'),
        failed: (e) => say('messageFailed', { status: e.response?.status_code ?? 0 }),
      },
    });
  },
  // The tab is frozen: its socket goes without a word, and JsSIP's attempts to
  // come back fail until wake.
  sleep() {
    asleep = true;
    for (const s of sockets) s.terminate();
    sockets = [];
    say('asleep');
  },
  wake() { asleep = false; },
  stop() { ua.stop(); },
};

process.on('uncaughtException', (e) => { say('error', { cause: String(e?.stack ?? e) }); });
const input = readline.createInterface({ input: process.stdin });
input.on('line', (line) => {
  const command = JSON.parse(line);
  try {
    commands[command.do](command);
  } catch (e) {
    say('error', { cause: String(e?.stack ?? e) });
  }
});
input.on('close', () => process.exit(0)); // the test has ended
say('ready');
