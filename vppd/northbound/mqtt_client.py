"""One connection to a broker that need not be trusted: aiomqtt's client behind a guard.

What aiomqtt leaves open is closed here: names are resolved and TLS is shaken in a thread of its own
and not in the pool that others need; a broker that floods or sends a huge packet is cut off before
the site's loop feels it; an acknowledgment that is a refusal is one, and one that says that nobody
listens is told; no wait swallows a cancel. A new object for every connection: one that failed can
not be used again.
"""

import asyncio
import logging
import os
import ssl
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from vppd.core.ports import Clock
from vppd.core.settings_mqtt import MqttSettings, MqttTlsSettings
from vppd.northbound.mqtt_messages import Outgoing, Place

T = TypeVar("T")

WINDOW = 10  # messages on their way without an acknowledgment
TURN_PACKETS = 8  # read in one turn of the loop
PACKETS_MAX = 300  # at once, above what answers our own
PACKETS_PER_S = 50.0
INCOMING_MAX = 64
ANSWER_S = 10.0
PUBLISH_BYTES = 512  # head and properties of what we send
HEAD_BYTES = 4096  # topic and properties of a packet
TEND_S = 1.0
UNHEARD = 0x10  # PUBACK: no matching subscribers
FAREWELL_S = 0.5


@dataclass(frozen=True, slots=True)
class Traffic:
    """How much may come in, above what answers our own: more is a flood, and cut off."""

    packets_max: int = PACKETS_MAX
    packets_per_s: float = PACKETS_PER_S
    incoming_max: int = INCOMING_MAX


FEW = Traffic()  # commands alone


class BrokerError(OSError):
    """The broker refuses, or does what it must not; the text says what."""


class LastWords(logging.Handler):
    """Keeps the last complaint of paho, which knows more than the code it returns."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Instead of writing it: the link says it, once."""
        self.text = record.getMessage()


class Connection(aiomqtt.Client):
    """`connect`, then `subscribe`, `messages`, `send`, at last `leave`."""

    def __init__(
        self,
        settings: MqttSettings,
        place: Place,
        client_id: str,
        will: Outgoing,
        clock: Clock,
        traffic: Traffic = FEW,
        *,
        by_hand: bool = False,
    ) -> None:
        """`by_hand`: what comes is acknowledged by `done`, else as it comes."""
        self._last_words = LastWords()
        logger = logging.Logger("paho", logging.WARNING)  # noqa: LOG001  one for each link
        logger.addHandler(self._last_words)
        super().__init__(
            place.host,
            place.port,
            identifier=client_id,
            username=settings.username,
            password=settings.password,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            keepalive=settings.keepalive_s,
            timeout=ANSWER_S,
            will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=True),
            properties=_asked(settings),
            logger=logger,
            max_queued_incoming_messages=traffic.incoming_max,
            max_inflight_messages=2 * WINDOW,
        )
        self._client.manual_ack_set(by_hand)
        self._tls = settings.tls if place.encrypted else None
        self._packet_max = settings.command_max_bytes + HEAD_BYTES
        self._largest: int | None = None  # that the broker takes, bytes
        self._clock, self._left, self._greeted = clock, False, False
        self._traffic = traffic
        self._tokens, self._filled_s = float(traffic.packets_max), clock.now_s()
        self.why = ""  # it was given up, where that is known
        self._answers: dict[int, asyncio.Future[ReasonCode]] = {}
        self._handle_packet: Callable[[], Any] = self._client._packet_handle  # noqa: SLF001
        self._client._packet_handle = self._counted  # type: ignore[method-assign]  # noqa: SLF001

    # --- its life ---

    async def connect(self) -> None:
        """Raises OSError and MqttError with the reason."""
        await self._in_a_thread(self._dial)
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._connected
        except TimeoutError:
            raise BrokerError(f"the broker says nothing within {ANSWER_S:g} s") from None

    async def tend(self) -> None:
        """Keep it alive until it is gone. Raises BrokerError that says why."""
        while True:
            await asyncio.wait({self._disconnected}, timeout=TEND_S)
            if self._disconnected.done():
                raise BrokerError(f"the link is gone: {self._disconnected.exception()}")
            if self._client.loop_misc() != 0:
                raise BrokerError("the broker is silent")

    async def leave(self) -> None:
        """Close it, so that the broker sends the last will; never waits long."""
        self._left = True
        with suppress(OSError, ValueError, TimeoutError):
            reason = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
            self._client.disconnect(reason)
            async with asyncio.timeout(FAREWELL_S):
                await asyncio.wait({self._disconnected})
        self._close()

    async def hear(self, *topics: str, as_published: bool = True) -> None:
        """Subscribe. A message that its sender had retained is marked so: when it comes live too,
        or, without `as_published`, only when it is an old one. Raises BrokerError when the broker
        refuses."""
        # old ones only when the subscription is new
        options = SubscribeOptions(qos=1, retainAsPublished=as_published, retainHandling=1)
        answers = await self.subscribe([(topic, options) for topic in topics])
        for topic, answer in zip(topics, answers, strict=False):
            if isinstance(answer, ReasonCode) and answer.is_failure:
                raise BrokerError(f"the broker refuses the subscription of {topic}: {answer}")

    def done(self, message: aiomqtt.Message) -> None:
        """The broker may forget this message; until then it delivers it again on the next link.
        Said of every one, in the order they came, where they are acknowledged by hand."""
        self._client.ack(message.mid, message.qos)

    def takes(self, message: Outgoing) -> bool:
        """Whether the broker takes a packet of that size."""
        size = len(message.payload) + len(message.topic) + PUBLISH_BYTES
        return self._largest is None or size <= self._largest

    async def send(self, message: Outgoing) -> bool:
        """Publish with QoS 1 and wait for the acknowledgment. False: nobody is subscribed. Raises
        BrokerError when it is refused or not answered."""
        if not self.takes(message):
            raise BrokerError(f"{message.topic}: too large, the broker takes {self._largest} bytes")
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.PayloadFormatIndicator = 1
        properties.ContentType = "application/json"
        if message.correlation is not None:
            properties.CorrelationData = message.correlation
        if message.respond is not None:
            properties.ResponseTopic = message.respond
        if message.void_s is not None:
            properties.MessageExpiryInterval = message.void_s
        info = self._client.publish(message.topic, message.payload, 1, message.retain, properties)
        if info.rc != 0:
            raise BrokerError(f"cannot be sent: {info.rc!s}")
        self._tokens += 1.0
        answer = self._answers[info.mid] = self._loop.create_future()
        try:
            async with asyncio.timeout(ANSWER_S):
                reason = await answer
        except TimeoutError:
            raise BrokerError(f"no acknowledgment within {ANSWER_S:g} s") from None
        finally:
            self._answers.pop(info.mid, None)
        if reason.is_failure:
            raise BrokerError(f"the broker refuses {message.topic}: {reason}")
        return int(reason.value) != UNHEARD

    async def _wait_for(self, fut: Awaitable[T], *_: Any, **__: Any) -> T:
        """As aiomqtt waits for an acknowledgment, but that a cancel which comes at the same moment
        is not lost, as asyncio.wait_for loses it before Python 3.12."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await fut
        except TimeoutError:
            raise aiomqtt.MqttError("the broker does not answer") from None

    # --- connecting, off the loop ---

    async def _in_a_thread(self, work: Callable[[], None]) -> None:
        """A thread of its own: a name server that hangs must not use up the loop's pool, nor hold
        up the end of the process."""
        done: asyncio.Future[None] = self._loop.create_future()

        def finish(error: Exception | None) -> None:
            if done.cancelled():
                self._close()
            elif error is not None:
                done.set_exception(error)
            else:
                done.set_result(None)

        def run() -> None:
            failed: Exception | None = None
            try:
                work()
            except Exception as error:  # noqa: BLE001  told to whoever waits
                failed = error
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(finish, failed)

        threading.Thread(target=run, name="mqtt connect", daemon=True).start()
        await done

    def _dial(self) -> None:
        if self._tls is not None:
            self._client.tls_set_context(context(self._tls))
        self._client_connect()

    # --- what paho calls ---

    def _on_connect(
        self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None
    ) -> None:
        self._greeted = not reason_code.is_failure
        self._largest = getattr(properties, "MaximumPacketSize", None)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None
    ) -> None:
        said = self._last_words.text or str(reason_code)
        if self._greeted:
            self.why = self.why or f"the link was lost: {said}"
        elif not self._connected.done():  # whoever waits need not wait for the whole time
            text = f"the broker hung up: {said}; it may not like our client certificate"
            self.why = self.why or text
            self._connected.set_exception(BrokerError(text))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_publish(
        self,
        client: Any,  # noqa: ARG002
        userdata: Any,  # noqa: ARG002
        mid: int,
        reason_code: Any,
        properties: Any,  # noqa: ARG002
    ) -> None:
        answer = self._answers.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(reason_code)

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:  # noqa: ARG002
        self._loop.call_soon_threadsafe(self._attend, sock)

    def _attend(self, sock: Any) -> None:
        if self._left or sock.fileno() < 0:
            self._close()
        else:
            self._loop.add_reader(sock.fileno(), self._readable, sock)

    def _readable(self, sock: Any) -> None:
        """Some packets, then the others of the loop have their turn."""
        try:
            for _ in range(TURN_PACKETS):
                self._client.loop_read()
                if self._client._in_packet["remaining_length"] > self._packet_max:  # noqa: SLF001
                    raise BrokerError("the broker sends a larger packet than was agreed")  # noqa: TRY301
                if sock.fileno() < 0 or not _pending(sock):
                    return
        except Exception as error:  # noqa: BLE001  whatever it is, this link is over
            self._fail(error)
            return
        self._loop.call_soon(self._readable, sock)

    def _counted(self) -> Any:
        """Each packet takes a token; they come back with time and with what we send."""
        now_s = self._clock.now_s()
        traffic = self._traffic
        self._tokens += (now_s - self._filled_s) * traffic.packets_per_s
        most = traffic.packets_max + 2.0 * len(self._answers)
        self._tokens = min(self._tokens, most) - 1.0
        self._filled_s = now_s
        if self._tokens < 0.0:
            raise BrokerError("the broker floods this link")
        return self._handle_packet()

    def _fail(self, error: Exception) -> None:
        self.why = self.why or str(error)
        for future in (self._connected, self._disconnected):
            if not future.done():
                future.set_exception(error)
                future.exception()  # seen: it is also told by the one who waits
        self._close()

    def _close(self) -> None:
        self._left = True
        with suppress(Exception):
            self._client._sock_close()  # noqa: SLF001


def context(tls: MqttTlsSettings) -> ssl.SSLContext:
    """Of the files as they are now, so that a renewed certificate counts with the next link.
    Raises OSError that names the file."""
    made = ssl.create_default_context(cafile=_file(tls.ca) if tls.ca else None)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate is not None:
        made.load_cert_chain(_file(tls.certificate), _file(tls.key) if tls.key else None)
    return made


def _file(name: str) -> str:
    """A path, or the name of a credential. Raises FileNotFoundError."""
    place = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(name) if "/" in name or place is None else Path(place) / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; see LoadCredential= of the unit")
    return str(path)


def _asked(settings: MqttSettings) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = settings.session_expiry_s
    properties.ReceiveMaximum = 16
    properties.MaximumPacketSize = settings.command_max_bytes + HEAD_BYTES
    properties.TopicAliasMaximum = 0
    return properties


def _pending(sock: Any) -> bool:
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
