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
const drive = require('./driver.js');

const stream = { getTracks: () => [], getAudioTracks: () => [], getVideoTracks: () => [] };
const media = { mediaStream: stream, sessionTimersExpires: 120 };
const say = (event, more = {}) => process.stdout.write(JSON.stringify({ event, ...more }) + '\n');

const place = {
  // The tab is frozen: its socket goes without a word, and JsSIP's attempts to
  // come back fail until wake.
  sleep() {
    asleep = true;
    for (const s of sockets) s.terminate();
    sockets = [];
    say('asleep');
  },
  wake() { asleep = false; },
};

const commands = drive({ JsSIP, say, media, place });

process.on('uncaughtException', (e) => { say('error', { cause: String(e?.stack ?? e) }); });
const input = readline.createInterface({ input: process.stdin });
input.on('line', (line) => {
  const command = JSON.parse(line);
  try {
    if (command.cafile) ca = fs.readFileSync(command.cafile);
    commands[command.do](command);
  } catch (e) {
    say('error', { cause: String(e?.stack ?? e) });
  }
});
input.on('close', () => process.exit(0)); // the test has ended
say('ready');
