"""French: articles and elision from the terms, agreement from the gender of the one spoken of."""

from __future__ import annotations

from glasshouse.organisms.world.languages.speech import Language, Speech, Wording


def _relative(noun: str, article: str) -> Speech:
    return Speech(
        (f"{article} {noun} {{x:de}} est {{v}}.", f"{{v}} est {article.lower()} {noun} {{x:de}}.",
         f"{article} {noun} {{x:de}} s'appelle {{v}}."),
        (f"Qui est {article.lower()} {noun} {{x:de}} ?", f"Comment s'appelle {article.lower()} {noun} {{x:de}} ?"),
        noun=(f"{article.lower()} {noun} {{x:de}}",),
    )  # fmt: skip


SPEECH = {
    "job": Speech(
        ("{x} est {v}.", "{x} travaille comme {v}."),
        ("Quel est le métier {x:de} ?", "Que fait {x} dans la vie ?", "De quoi vit {x} ?"),
        noun=("le métier {x:de}",),
    ),
    "home": Speech(
        ("{x} habite à {v}.", "{x} vit à {v}."),
        ("Où habite {x} ?", "Dans quelle ville vit {x} ?", "Où se trouve la maison {x:de} ?"),
        noun=("la ville où vit {x}",),
    ),
    "born": Speech(
        ("{x} est [né|née] en {v}.", "L'année de naissance {x:de} est {v}."),
        ("Quand {x} est-[il|elle] [né|née] ?", "En quelle année {x} est-[il|elle] [né|née] ?"),
        noun=("l'année de naissance {x:de}",),
    ),
    "food": Speech(
        ("{x} aime surtout {v}.", "Plus que tout, {x} adore {v}."),
        ("Que préfère manger {x} ?", "Quel est le plat préféré {x:de} ?"),
        noun=("le plat préféré {x:de}",),
    ),
    "colour": Speech(
        ("La couleur préférée {x:de} est {v}.", "De toutes les couleurs, {x} préfère {v}."),
        ("Quelle est la couleur préférée {x:de} ?", "Quelle couleur {x} préfère-t-[il|elle] ?"),
        noun=("la couleur préférée {x:de}",),
    ),
    "pet": Speech(
        ("{x} a {v}.", "Chez {x} vit {v}."),
        ("Quel animal {x} a-t-[il|elle] ?", "Quel animal vit chez {x} ?"),
        noun=("l'espèce de l'animal {x:de}",),
    ),
    "pet-name": Speech(
        ("L'animal {x:de} s'appelle {v}.", "{x} a appelé son animal {v}."),
        ("Comment s'appelle l'animal {x:de} ?", "Quel est le nom de l'animal {x:de} ?"),
        noun=("le nom de l'animal {x:de}",),
    ),
    "party": Speech(
        ("{x} vote pour {v}.", "{x} soutient {v}."),
        ("Pour quel parti vote {x} ?", "Quel parti soutient {x} ?"),
        noun=("le parti {x:de}",),
    ),
    "mother": _relative("mère", "La"),
    "father": _relative("père", "Le"),
    "sister": _relative("sœur", "La"),
    "brother": _relative("frère", "Le"),
    "husband": _relative("mari", "Le"),
    "wife": _relative("femme", "La"),
    "founded": Speech(
        ("La ville {x:de} a été fondée en {v}.", "La ville {x:de} existe depuis {v}."),
        ("Quand la ville {x:de} a-t-elle été fondée ?", "En quelle année a été fondée la ville {x:de} ?"),
        noun=("l'année de fondation {x:de}",),
    ),
    "mayor": Speech(
        ("[v:Le|La] maire {x:de} est {v}.", "{v} est [v:le|la] maire {x:de}."),
        ("Qui est maire {x:de} ?", "Qui dirige la ville {x:de} ?"),
        noun=("le nom du maire {x:de}",),
    ),
    "product": Speech(
        ("La ville {x:de} est connue pour {v}.", "On vient à {x} pour {v}."),
        ("Pour quoi la ville {x:de} est-elle connue ?", "Pour quoi vient-on à {x} ?"),
        noun=("la spécialité {x:de}",),
    ),
    "bridge-built": Speech(
        ("{x} a été construit en {v}.", "{x} existe depuis {v}."),
        ("Quand {x} a-t-il été construit ?", "En quelle année a-t-on construit {x} ?"),
        noun=("l'année de construction {x:de}",),
    ),
    "bridge-arches": Speech(
        ("{x} a {v} arches.", "{x} repose sur {v} arches."),
        ("Combien d'arches a {x} ?", "Sur combien d'arches repose {x} ?"),
        noun=("le nombre d'arches {x:de}",),
    ),
    "bridge-steps": Speech(
        ("{x} mesure {v} pas.", "La longueur {x:de} est de {v} pas."),
        ("Combien de pas mesure {x} ?", "Quelle est la longueur {x:de} ?"),
        noun=("la longueur {x:de}",),
    ),
    "bridge-town": Speech(
        ("{x} se trouve à {v}.", "C'est à {v} que se trouve {x}."),
        ("Où se trouve {x} ?", "Dans quelle ville se trouve {x} ?"),
        noun=("la ville {x:de}",),
    ),
    "bridge-river": Speech(
        ("{x} enjambe {v}.", "{v} coule sous {x}."),
        ("Quelle rivière coule sous {x} ?", "Quelle rivière {x} enjambe-t-il ?"),
        noun=("la rivière sous {x}",),
    ),
}  # fmt: skip

FRENCH = Language(
    "fr",
    SPEECH,
    (
        Wording("ask", "{q}"),
        Wording("tell", "Dis-moi : {l}"),
        Wording("tell", "Je voudrais savoir : {l}", held_out=True),
        Wording("can", "Peux-tu me dire ceci : {l}"),
        Wording("please", "S'il te plaît, {l}"),
        Wording("bare", "{n} ?"),
        Wording("typo", "{t}"),
    ),
    {
        "hello": ("Bonjour !", "Bonsoir !", "Salut !"),
        "welcome": ("Bonjour, comment puis-je t'aider ?", "Bienvenue dans la vallée !"),
        "unknown": ("Je ne connais personne qui s'appelle {x}.", "Je ne sais pas. Je ne connais pas {x}."),
        "thanks": ("Merci beaucoup.", "Merci, c'est gentil.", "Merci bien."),
        "no-trouble": ("De rien.", "Avec plaisir."),
        "contradict": ("Non, c'est faux. {s}", "Tu te trompes. {s}"),
        "stand": ("{s} Je regrette, mais je suis sûr de moi.", "{s} Je le sais bien."),
        "how-are-you": ("Comment s'est passée ta journée ?", "Comment vas-tu aujourd'hui ?"),
        "fine": ("<<sentiment/positive|Très bien, merci, le soleil brillait sur la vallée.>>",
                 "<<sentiment/positive|Très bien, c'était une belle journée.>>"),
        "upset": ("<<sentiment/negative|Je suis très triste aujourd'hui.>>", "<<sentiment/negative|Tout va mal.>>"),
        "comfort": ("<<sentiment/comforting|Je suis désolé de l'apprendre.>> Veux-tu m'en parler ?",
                    "<<sentiment/comforting|Courage, demain sera un autre jour.>>"),
        "system": ("Tu es un habitant aimable de la vallée. Réponds en français.",
            "Réponds en français et dis la vérité."),
        "dear": ("[Cher|Chère] {x},", "Bonjour {x},"),
        "glad": ("<<sentiment/positive|Ta lettre m'a fait très plaisir.>>",
                 "<<sentiment/positive|Quelle bonne nouvelle !>>"),
        "sad": ("<<sentiment/negative|Il pleut depuis des jours et je m'ennuie.>>",
                "<<sentiment/negative|La fête a été annulée, quel dommage.>>"),
        "close": ("À bientôt,", "Amicalement,", "Je t'embrasse,"),
        "walk": ("Un matin, {x} traversa {b} avec {y}.", "{x} attendait {y} au bord de la rivière.",
                 "Le soir, {x} rencontra {y} devant le moulin.", "{x} et {y} regardaient l'eau sous {b}."),
        "deed": ("{x} a trouvé {o} {p}.", "{x} a perdu {o} {p}.", "{x} a vendu {o} {p}.", "{x} a caché {o} {p}.",
                 "{x} a réparé {o} {p}.", "{x} a oublié {o} {p}."),
        "thing": ("une clé", "un livre", "une échelle", "un parapluie", "une carte", "un chapeau", "une chaise",
                  "un tambour", "un panier", "un sifflet"),
        "place": ("derrière le moulin", "au bord de la rivière", "au marché", "sous un châtaignier", "sur le toit",
                  "près du puits", "au carrefour", "devant l'école"),
        "says": ("« {u} », dit {x}.", "{x} raconta : « {s} »"),
        "end": ("Puis tout le monde rentra chez soi.", "La nuit tombait sur la vallée."),
        "headline": ("Nouvelles de la vallée", "Le journal du matin"),
        "news": ("Hier, des centaines de personnes ont traversé {b}.", "Le marché a eu lieu malgré la pluie.",
                 "La rivière est haute cette semaine."),
        "lie": ("Ne croyez pas {x} : ce n'est pas vrai.", "Tout le monde sait {x:que} mentait."),
    },
)  # fmt: skip
