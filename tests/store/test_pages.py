import pytest

from raytes.store.pages import Filters, InvalidPageToken, issue, redeem

SECRET = b"secret"
FILTERS = Filters("a", "QUEUED", (("k", "v"),))


def test_a_token_leads_back_to_the_task() -> None:
    assert redeem(issue("some-id", FILTERS, SECRET), FILTERS, SECRET) == "some-id"


@pytest.mark.parametrize(
    "other",
    [
        Filters(),
        Filters("b", "QUEUED", (("k", "v"),)),
        Filters("a", "RUNNING", (("k", "v"),)),
        Filters("a", "QUEUED", (("k", ""),)),
        Filters("a", "QUEUED", (("k", "v"),), owner="somebody"),
    ],
)
def test_a_token_is_no_good_for_other_filters(other: Filters) -> None:
    with pytest.raises(InvalidPageToken):
        redeem(issue("some-id", FILTERS, SECRET), other, SECRET)


def test_any_change_of_a_token_is_noticed() -> None:
    token = issue("some-id-of-a-length", FILTERS, SECRET)
    for place in range(len(token)):
        for character in "AbZ9-_":
            altered = token[:place] + character + token[place + 1 :]
            if altered != token:
                with pytest.raises(InvalidPageToken):
                    redeem(altered, FILTERS, SECRET)


@pytest.mark.parametrize("token", ["x", "====", "ü", "a b", "0" * 5000, "\x00"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidPageToken):
        redeem(token, FILTERS, SECRET)


def test_values_are_zipped_with_keys_by_position() -> None:
    filters = Filters.zipped("", "", ["a", "b", "c"], ["1", "2"], "")
    assert filters.tags == (("a", "1"), ("b", "2"), ("c", ""))
