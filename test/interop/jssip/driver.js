// JsSIP as a client that a test drives, under Node.js (client.js) or in a
// browser (page.js): commands are a table of functions, events go to say.
'use strict';

// drive returns the commands. media are the options of each call; place is
// more commands, where they differ between a browser and Node.js. hears
// resolves when sound has come over a peer connection.
module.exports = function drive({ JsSIP, say, media, place, hears }) {
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

  return {
    start({ url, uri, password, instance, push }) {
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
    stop() { ua.stop(); },
    // Resolves when sound from the far end has arrived.
    async hear() { await hears(session.connection); say('heard'); },
    ...place,
  };
};
