import asyncio

import pytest

from gw.upstream.resolve import Resolver, is_address


class Names:
    """A resolver's world: what each name means now, and how often it was asked."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}
        self.asked = 0

    async def look_up(self, name: str) -> list[str]:
        self.asked += 1
        await asyncio.sleep(0)
        if name not in self.addresses:
            raise OSError("no such name")
        return self.addresses[name]


def test_lookups_at_the_same_time_are_one_and_the_answer_is_remembered() -> None:
    async def main() -> None:
        names = Names()
        names.addresses["a"] = ["10.0.0.1", "10.0.0.2", "10.0.0.1"]
        resolver = Resolver(asyncio.get_running_loop(), lookup=names.look_up, remembered_s=60)
        assert await asyncio.gather(*(resolver.addresses("a") for _ in range(5))) == [("10.0.0.1", "10.0.0.2")] * 5
        await resolver.addresses("a")
        assert names.asked == 1
        await resolver.close()

    asyncio.run(main())


def test_a_moved_name_is_followed_and_the_last_addresses_outlive_a_failure() -> None:
    async def main() -> None:
        names = Names()
        names.addresses["a"] = ["10.0.0.1"]
        resolver = Resolver(asyncio.get_running_loop(), lookup=names.look_up, remembered_s=0)
        assert await resolver.addresses("a") == ("10.0.0.1",)
        names.addresses["a"] = ["10.0.0.2"]
        assert await resolver.addresses("a") == ("10.0.0.2",)
        del names.addresses["a"]
        assert await resolver.addresses("a") == ("10.0.0.2",)
        with pytest.raises(OSError, match="no such name"):
            await resolver.addresses("never-known")
        await resolver.close()

    asyncio.run(main())


def test_a_name_without_addresses_is_an_error() -> None:
    async def main() -> None:
        names = Names()
        names.addresses["a"] = []
        with pytest.raises(OSError, match="has no address"):
            await Resolver(asyncio.get_running_loop(), lookup=names.look_up).addresses("a")

    asyncio.run(main())


def test_one_that_gives_up_does_not_take_the_answer_from_the_others() -> None:
    async def main() -> None:
        names = Names()
        names.addresses["a"] = ["10.0.0.1"]
        resolver = Resolver(asyncio.get_running_loop(), lookup=names.look_up)
        hasty = asyncio.ensure_future(resolver.addresses("a"))
        patient = asyncio.ensure_future(resolver.addresses("a"))
        await asyncio.sleep(0)
        hasty.cancel()
        assert await patient == ("10.0.0.1",)
        assert names.asked == 1

    asyncio.run(main())


def test_the_systems_resolver() -> None:
    async def main() -> None:
        addresses = await Resolver(asyncio.get_running_loop()).addresses("localhost")
        assert "127.0.0.1" in addresses or "::1" in addresses

    asyncio.run(main())


@pytest.mark.parametrize(("host", "expected"), [("10.0.0.1", True), ("::1", True), ("a", False), ("10.0.0", False)])
def test_is_address(host: str, expected: bool) -> None:
    assert is_address(host) is expected
