"""Languages: what each says and asks of every relation, and what is said beside the facts. One file a language."""

from glasshouse.organisms.world.languages.arabic import ARABIC
from glasshouse.organisms.world.languages.chinese import CHINESE
from glasshouse.organisms.world.languages.english import ENGLISH
from glasshouse.organisms.world.languages.french import FRENCH
from glasshouse.organisms.world.languages.hebrew import HEBREW
from glasshouse.organisms.world.languages.russian import RUSSIAN
from glasshouse.organisms.world.languages.speech import Language, Speech, Wording

SPOKEN = {language.code: language for language in (ENGLISH, FRENCH, RUSSIAN, ARABIC, HEBREW, CHINESE)}

__all__ = ["SPOKEN", "Language", "Speech", "Wording"]
