"""The reference client against the real daemon. Started by tests/python/run.

The daemon keeps 100 entries per inbox. Every test has users of its own.
"""

import os
import subprocess
import tempfile
import time
import unittest

from roam_client import Client, Disconnected, RoamError, pb
from roam_store import Store

HOST, PORT = os.environ["ROAMD_TEST_ADDRESS"].rsplit(":", 1)
KEPT = 100


def mint(user, *more):
    command = [os.environ["ROAMD_BIN"], "token", "mint", "--data", os.environ["ROAMD_TEST_DATA"]]
    done = subprocess.run([*command, "--user", user, *more], capture_output=True, check=True)
    return done.stdout.decode().strip()


class Recorder:
    """Checks that the entries of a device come one after the other."""

    def __init__(self):
        self.last, self.texts = None, []

    def __call__(self, seq, entry):
        assert self.last is None or seq == self.last + 1, (self.last, seq)
        self.last = seq
        if entry.HasField("message"):
            self.texts.append(entry.message.content.decode())


class Scenarios(unittest.TestCase):
    def device(self, user, name="phone", store=None):
        user = f"{user}-{self.id().rsplit('.', 1)[1]}"
        store = store or Store()
        client = Client((HOST, int(PORT)), mint(user), name, store, on_entry=Recorder())
        client.user, client.seen = user, client.on_entry
        self.addCleanup(store.db.close)
        self.addCleanup(client.abort)
        return client

    def wait(self, client, ready):
        end = time.monotonic() + 30
        while not ready():
            self.assertLess(time.monotonic(), end, "waited in vain")
            client.poll(0.01)

    def pair(self):
        alice, bob = self.device("alice"), self.device("bob")
        alice.connect()
        bob.connect()
        return alice, bob

    def test_login(self):
        alice = self.device("alice")
        alice.connect()
        self.assertEqual(alice.welcome.user_id, alice.user)
        self.assertEqual(alice.welcome.verdict, pb.VERDICT_TOO_LONG)
        self.assertTrue(alice.live)
        position = alice.store.position()
        self.assertEqual((position.epoch, position.seq), (alice.welcome.epoch, 0))
        alice.close()
        alice.connect()
        self.assertEqual(alice.welcome.verdict, pb.VERDICT_UP_TO_DATE)

    def test_refused(self):
        alice = self.device("alice")
        for token, code in [
            ("nonsense", pb.ERROR_CODE_UNAUTHENTICATED),
            (mint(alice.user, "--device", "tablet"), pb.ERROR_CODE_UNAUTHENTICATED),
            (mint(alice.user, "--scope", "admin"), pb.ERROR_CODE_FORBIDDEN_SCOPE),
        ]:
            alice.token = token
            with self.assertRaises(RoamError) as refused:
                alice.reconnect()
            self.assertEqual((refused.exception.code, refused.exception.fatal), (code, True))

    def test_live_messages_both_ways(self):
        alice, bob = self.pair()
        first = alice.send("hi bob".encode(), peer=bob.user)
        second = bob.send("grüß dich".encode(), peer=alice.user)
        self.assertEqual(first.conversation_id, second.conversation_id)
        for client in (alice, bob):
            self.wait(client, lambda: len(client.seen.texts) == 2)
            self.assertEqual(client.seen.texts, ["hi bob", "grüß dich"])
        stored = bob.store.messages(first.conversation_id)
        self.assertEqual([message.sender for message in stored], [alice.user, bob.user])

    def test_offline_messages(self):
        alice, bob = self.pair()
        bob.close()
        sent = [str(number) for number in range(90)]
        for text in sent:
            alice.send(text.encode(), peer=bob.user)
        bob.connect()
        self.assertEqual(bob.welcome.verdict, pb.VERDICT_CATCH_UP)
        self.assertEqual(bob.seen.texts, sent)
        self.assertEqual(bob.unread_total, 90)
        self.assertEqual(bob.seen.last, bob.welcome.head_seq)

    def test_acks_are_few_and_move_the_cursor(self):
        alice, bob = self.pair()
        bob.acks_sent = 0
        for number in range(80):
            alice.send(b"x", peer=bob.user)
        self.wait(bob, lambda: len(bob.seen.texts) == 80)
        self.assertLess(bob.acks_sent, 40)
        bob.close()
        bob.connect()
        self.assertEqual(bob.welcome.device_cursor, 80)
        self.assertEqual(len(bob.seen.texts), 80, "nothing came twice")

    def test_a_lost_connection_costs_nothing(self):
        alice, bob = self.pair()
        texts = []
        for number in range(40):
            texts.append(str(number))
            alice.send(texts[-1].encode(), peer=bob.user)
            if number % 7 == 0:
                bob.abort()
                bob.reconnect()
        self.wait(bob, lambda: len(bob.seen.texts) >= 40)
        self.assertEqual(bob.seen.texts, texts)

    def test_history(self):
        alice, bob = self.pair()
        for number in range(1, 251):
            ack = alice.send(str(number).encode(), peer=bob.user)
        pages = list(bob.history(ack.conversation_id))
        self.assertEqual([len(page) for page in pages], [100, 100, 50])
        rows = [message.history_seq for page in reversed(pages) for message in page]
        self.assertEqual(rows, list(range(1, 251)))
        with self.assertRaises(RoamError) as refused:
            list(bob.history("nowhere"))
        self.assertEqual(refused.exception.code, pb.ERROR_CODE_NOT_FOUND)
        self.assertFalse(refused.exception.fatal)

    def test_away_for_too_long(self):
        alice, bob = self.pair()
        carol = self.device("carol")
        carol.connect()
        bob.close()
        carol.send(b"from carol", peer=bob.user)
        for number in range(KEPT + 30):
            ack = alice.send(str(number).encode(), peer=bob.user)
        bob.seen.last = None
        bob.connect()
        self.assertEqual(bob.welcome.verdict, pb.VERDICT_TOO_LONG)
        self.assertTrue(bob.live)
        self.assertEqual(bob.store.position().seq, KEPT + 31)
        self.assertEqual(bob.unread_total, KEPT + 31)
        known = {one.peer: one for one in bob.store.conversations()}
        self.assertEqual(set(known), {alice.user, carol.user})
        self.assertEqual(known[alice.user].unread, KEPT + 30)
        self.assertEqual(sum(map(len, bob.history(ack.conversation_id))), KEPT + 30)
        alice.send(b"live again", peer=bob.user)
        self.wait(bob, lambda: bob.seen.texts == ["live again"])

    def test_a_retry_is_the_same_message(self):
        alice, bob = self.pair()
        first = alice.send(b"once", peer=bob.user)
        send = pb.Send(peer=bob.user, client_message_id=7, content=b"by hand")
        by_hand = alice.request(send=send)
        alice.abort()
        alice.reconnect()
        again = alice.request(send=send)
        self.assertTrue(again.duplicate)
        by_hand.duplicate = True
        self.assertEqual(again, by_hand)
        send.content = b"changed"
        with self.assertRaises(RoamError) as refused:
            alice.request(send=send)
        self.assertEqual(refused.exception.code, pb.ERROR_CODE_IDEMPOTENCY_CONFLICT)
        self.assertEqual(first.history_seq, 1)
        self.wait(bob, lambda: len(bob.seen.texts) == 2)

    def test_an_app_that_dies_sends_once(self):
        _, bob = self.pair()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "device.sqlite")
            alice = self.device("alice", "laptop", Store(path))
            alice.connect()
            # The connection is gone before the answer can be read: the outcome is unknown.
            request, alice.request = alice.request, self.dying(alice)
            with self.assertRaises(Disconnected):
                alice.send(b"exactly once", peer=bob.user)
            self.assertEqual(len(alice.store.outbox()), 1)
            again = self.device("alice", "laptop", Store(path))
            again.connect()
            self.assertEqual(again.store.outbox(), [])
            again.send(b"another", peer=bob.user)
        self.wait(bob, lambda: len(bob.seen.texts) == 2)
        self.assertEqual(bob.seen.texts, ["exactly once", "another"])

    def dying(self, client):
        def request(**body):
            client._write(1_000_000, **body)
            self.wait(client, lambda: client.seen.texts)
            client.abort()
            raise Disconnected()

        return request

    def test_the_newest_session_of_a_device_wins(self):
        old, _ = self.pair()
        new = self.device("alice")
        new.connect()
        with self.assertRaises(Disconnected) as gone:
            old.poll(30)
        self.assertEqual(gone.exception.reason, pb.GO_AWAY_REASON_REPLACED)
        new.poll(0)

    def test_entries_of_a_later_version_still_count(self):
        alice = self.device("alice")
        alice.connect()
        entry = pb.Entry()
        entry.MergeFromString(b"\xc2\x02\x01?")  # Field 40, which nobody knows yet.
        alice._take(pb.SyncBatch(prev_seq=0, first_seq=1, last_seq=1, head_seq=1, entries=[entry]))
        self.assertEqual(alice.store.position().seq, 1)
        gap = pb.SyncBatch(prev_seq=2, first_seq=3, last_seq=3, head_seq=3, entries=[entry])
        with self.assertRaises(RuntimeError):
            alice._take(gap)


if __name__ == "__main__":
    unittest.main(verbosity=2)
