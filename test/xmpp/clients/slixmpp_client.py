"""Slixmpp as a client that a test drives: one JSON object a line on stdin is a
command, one on stdout an event, as in client.js. Direct TLS, SCRAM, XEP-0198."""
import asyncio
import json
import sys

import slixmpp


def tell(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


class Client(slixmpp.ClientXMPP):
    def __init__(self, jid, password, cafile, address):
        super().__init__(jid, password)
        self.ca_certs = cafile
        self.where = address
        self.stopped = False
        self.register_plugin("xep_0198")
        self.add_event_handler("session_start", self.started)
        self.add_event_handler("sm_enabled", lambda _: tell("sm"))
        self.add_event_handler("session_resumed", lambda _: tell("resumed"))
        self.add_event_handler("message", self.message)
        self.add_event_handler("disconnected", self.again)
        self.add_event_handler("failed_auth", lambda e: tell("error", text=str(e)))
        self.add_event_handler("ssl_invalid_chain", lambda e: tell("error", text=str(e)))

    def dial(self):
        self.connect(self.where, use_ssl=True)

    def again(self, _):
        if not self.stopped:
            self.dial()

    async def started(self, _):
        self.send_presence()
        tell("online", jid=self.boundjid.full)

    def message(self, m):
        if m["body"]:
            tell("message", body=m["body"], **{"from": m["from"].full})

    async def ask_roster(self):
        await self.get_roster()
        tell("roster", jids=list(self.client_roster.keys()))


async def commands(loop):
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    client = None
    tell("ready")
    while line := await reader.readline():
        c = json.loads(line)
        if c["do"] == "start":
            client = Client(c["jid"] + "/" + c["resource"], c["password"], c["cafile"], (c["host"], c["port"]))
            client.dial()
        elif c["do"] == "send":
            client.send_message(mto=c["to"], mbody=c["body"], mtype="chat")
        elif c["do"] == "roster":
            await client.ask_roster()
        elif c["do"] == "cut":
            client.transport.abort()
        elif c["do"] == "stop":
            client.stopped = True
            client.disconnect()
    loop.stop()


loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.create_task(commands(loop))
loop.run_forever()
