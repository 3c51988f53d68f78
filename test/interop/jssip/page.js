// JsSIP in a browser: the page that the tests open. tell is a function that the
// test has put into it, command is what the test calls.
'use strict';

const JsSIP = require('jssip');
const drive = require('./driver.js');

const say = (event, more = {}) => window.tell(JSON.stringify({ event, ...more }));

// hears plays what comes and waits until there is sound in it.
async function hears(connection) {
  const audio = new Audio();
  audio.srcObject = new MediaStream(connection.getReceivers().map((receiver) => receiver.track));
  await audio.play();
  for (;;) {
    for (const report of (await connection.getStats()).values()) {
      if (report.type === 'inbound-rtp' && report.totalAudioEnergy > 0) return;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const commands = drive({
  JsSIP, say, hears,
  media: { mediaConstraints: { audio: true, video: false }, pcConfig: { iceServers: [] }, sessionTimersExpires: 120 },
  place: {},
});

// As docs/connect-clients.md has it: in the background, say so.
document.addEventListener('visibilitychange', () => {
  say(document.hidden ? 'hidden' : 'visible');
  commands.clientState({ state: document.hidden ? 'inactive' : 'active' });
});

window.command = async (command) => {
  try {
    await commands[command.do](command);
  } catch (e) {
    say('error', { cause: String(e?.stack ?? e) });
  }
};
window.addEventListener('error', (e) => say('error', { cause: String(e.error?.stack ?? e.message) }));
say('ready');
