# ruff: noqa: E501 - rows of the tables are longer than lines of code
"""The words of the world in six languages, with the forms that sentences need. One row a concept.

Columns: concept | English | French | Russian | Arabic | Hebrew | Chinese. An underscore is a space inside a form. What
the forms of a cell are stands above each table; `LANGUAGES` names the languages everywhere.
"""

from __future__ import annotations

import functools

from glasshouse.organisms.world.writing import Term, mark

LANGUAGES = {"en": "english", "fr": "french", "ru": "russian", "ar": "arabic", "he": "hebrew", "zh": "chinese"}
FOREIGN = tuple(code for code in LANGUAGES if code != "en")

# Words for people: French, Arabic and Hebrew masculine and feminine; Russian nominative and instrumental of both.
JOBS = """
baker | baker | boulanger boulangère | пекарь пекарь пекарем пекарем | خباز خبازة | אופה אופה | 面包师
teacher | teacher | instituteur institutrice | учитель учительница учителем учительницей | معلم معلمة | מורה מורה | 老师
smith | smith | forgeron forgeronne | кузнец кузнец кузнецом кузнецом | حداد حدادة | נפח נפחית | 铁匠
carpenter | carpenter | menuisier menuisière | плотник плотник плотником плотником | نجار نجارة | נגר נגרית | 木匠
doctor | doctor | médecin médecin | врач врач врачом врачом | طبيب طبيبة | רופא רופאה | 医生
fisher | fisher | pêcheur pêcheuse | рыбак рыбачка рыбаком рыбачкой | صياد_سمك صيادة_سمك | דייג דייגת | 渔民
weaver | weaver | tisserand tisserande | ткач ткачиха ткачом ткачихой | نساج نساجة | אורג אורגת | 织工
gardener | gardener | jardinier jardinière | садовник садовница садовником садовницей | بستاني بستانية | גנן גננת | 园丁
painter | painter | peintre peintre | художник художница художником художницей | رسام رسامة | צייר ציירת | 画家
singer | singer | chanteur chanteuse | певец певица певцом певицей | مطرب مطربة | זמר זמרת | 歌手
tailor | tailor | couturier couturière | портной портниха портным портнихой | خياط خياطة | חייט חייטת | 裁缝
cook | cook | cuisinier cuisinière | повар повар поваром поваром | طباخ طباخة | טבח טבחית | 厨师
shepherd | shepherd | berger bergère | пастух пастушка пастухом пастушкой | راعي_غنم راعية_غنم | רועה רועה | 牧羊人
librarian | librarian | bibliothécaire bibliothécaire | библиотекарь библиотекарь библиотекарем библиотекарем | أمين_مكتبة أمينة_مكتبة | ספרן ספרנית | 图书管理员
miller | miller | meunier meunière | мельник мельничиха мельником мельничихой | طحان طحانة | טוחן טוחנת | 磨坊主
musician | musician | musicien musicienne | музыкант музыкантша музыкантом музыкантшей | عازف عازفة | נגן נגנית | 乐师
"""
COLOURS = """
red | red | le_rouge | красный | الأحمر | אדום | 红色
blue | blue | le_bleu | синий | الأزرق | כחול | 蓝色
green | green | le_vert | зелёный | الأخضر | ירוק | 绿色
yellow | yellow | le_jaune | жёлтый | الأصفر | צהוב | 黄色
white | white | le_blanc | белый | الأبيض | לבן | 白色
black | black | le_noir | чёрный | الأسود | שחור | 黑色
orange | orange | l'orange | оранжевый | البرتقالي | כתום | 橙色
purple | purple | le_violet | фиолетовый | البنفسجي | סגול | 紫色
"""
# French with its article; Russian accusative; Arabic with its article.
FOODS = """
soup | soup | la_soupe | суп | الحساء | מרק | 汤
bread | bread | le_pain | хлеб | الخبز | לחם | 面包
cheese | cheese | le_fromage | сыр | الجبن | גבינה | 奶酪
honey | honey | le_miel | мёд | العسل | דבש | 蜂蜜
fish | fish | le_poisson | рыбу | السمك | דגים | 鱼
rice | rice | le_riz | рис | الأرز | אורז | 米饭
apples | apples | les_pommes | яблоки | التفاح | תפוחים | 苹果
cake | cake | le_gâteau | торт | الكعك | עוגה | 蛋糕
mushrooms | mushrooms | les_champignons | грибы | الفطر | פטריות | 蘑菇
lentils | lentils | les_lentilles | чечевицу | العدس | עדשים | 扁豆
"""
# Gender m or f before the form: French with its article, Russian nominative, Chinese with its measure word.
ANIMALS = """
cat | cat | m un_chat | f кошка | f قطة | m חתול | 一只猫
dog | dog | m un_chien | f собака | m كلب | m כלב | 一条狗
goat | goat | f une_chèvre | f коза | f عنزة | f עז | 一只山羊
rabbit | rabbit | m un_lapin | m кролик | m أرنب | m ארנב | 一只兔子
parrot | parrot | m un_perroquet | m попугай | m ببغاء | m תוכי | 一只鹦鹉
duck | duck | m un_canard | f утка | f بطة | m ברווז | 一只鸭子
tortoise | tortoise | f une_tortue | f черепаха | f سلحفاة | m צב | 一只乌龟
donkey | donkey | m un_âne | m осёл | m حمار | m חמור | 一头驴
"""
# French with its article after "pour"; Russian instrumental; Arabic and Hebrew after "in".
PRODUCTS = """
cheese | cheese | le_fromage | сыром | بالجبن | בגבינה | 奶酪
honey | honey | le_miel | мёдом | بالعسل | בדבש | 蜂蜜
wool | wool | la_laine | шерстью | بالصوف | בצמר | 羊毛
glass | glass | le_verre | стеклом | بالزجاج | בזכוכית | 玻璃
paper | paper | le_papier | бумагой | بالورق | בנייר | 纸张
salt | salt | le_sel | солью | بالملح | במלח | 盐
bells | bells | les_cloches | колоколами | بالأجراس | בפעמונים | 铜钟
boats | boats | les_bateaux | лодками | بالقوارب | בסירות | 小船
clocks | clocks | les_horloges | часами | بالساعات | בשעונים | 钟表
apples | apples | les_pommes | яблоками | بالتفاح | בתפוחים | 苹果
tea | tea | le_thé | чаем | بالشاي | בתה | 茶叶
rope | rope | les_cordes | верёвками | بالحبال | בחבלים | 绳子
"""
# Russian accusative, nominative and genitive.
PARTIES = """
lantern | the_Lantern_Party | le_parti_de_la_Lanterne | Партию_фонаря Партия_фонаря Партии_фонаря | حزب_الفانوس | מפלגת_הפנס | 灯笼党
harvest | the_Harvest_Party | le_parti_de_la_Moisson | Партию_урожая Партия_урожая Партии_урожая | حزب_الحصاد | מפלגת_הקציר | 丰收党
"""
# Words of English only.
ENGLISH = {
    "hobby": "chess swimming dancing knitting fishing reading whistling stargazing beekeeping juggling sketching rowing",
    "dislike": "fog noise mud wasps crowds thunder cold_tea long_speeches early_mornings loud_music spiders wet_socks",
    "good": "candles soap boots ink baskets lamps kettles seeds nails blankets buttons paper_kites jam brushes mirrors flutes",
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "direction": "north south east west north-east north-west south-east south-west",
    "means": "cart coach mule foot",
    "road": "Mill_Road Salt_Road Pine_Path Heron_Way Shepherds'_Track Stone_Road Willow_Lane Quarry_Road Bell_Road Fox_Path "
    "Meadow_Way High_Road Orchard_Lane Ferry_Road Ridge_Path Well_Road Barley_Way Old_Road",
    "landmark": "tower mill well library garden lighthouse market_hall clock school harbour statue theatre",
    "wish": "a_wider_bridge a_narrow_bridge lower_tolls higher_tolls more_festivals fewer_festivals",
}  # fmt: skip

_TABLES = {"job": JOBS, "colour": COLOURS, "food": FOODS, "animal": ANIMALS, "product": PRODUCTS, "party": PARTIES}


@functools.cache
def words(table: str) -> tuple[str, ...]:
    """The keys of a table, as in `job/baker`, in its order."""
    if table in ENGLISH:
        found = ENGLISH[table].replace("'", "").replace("_", "-").lower().split()
    else:
        found = [row.split(" | ")[0].strip() for row in _TABLES[table].strip().splitlines()]
    return tuple(f"{table}/{word}" for word in found)


TABLES = (*_TABLES, *ENGLISH)


@functools.cache
def word(key: str, language: str) -> Term:
    """The term of `job/baker` in a language; all its forms are labelled with the concept `job/baker`."""
    table = key.partition("/")[0]
    place = words(table).index(key)
    if table in ENGLISH:
        assert language == "en", f"{key} has a word in English only"
        forms, gender = {"": ENGLISH[table].split()[place]}, "m"
    else:
        cells = _TABLES[table].strip().splitlines()[place].split(" | ")
        forms, gender = _forms(table, language, cells[1 + tuple(LANGUAGES).index(language)].split())
    if language == "en" and table in ("job", "animal", "landmark", "colour"):
        forms["a"] = ("an " if forms[""][0] in "aeiou" else "a ") + forms[""]
    if table == "means":
        forms["by"] = "on foot" if forms[""] == "foot" else f"by {forms['']}"
    return Term({name: mark(form.replace("_", " "), key) for name, form in forms.items()}, gender)


def _forms(table: str, language: str, cell: list[str]) -> tuple[dict[str, str], str]:
    """Forms by name, and the gender, of one cell."""
    if table == "animal" and len(cell) == 2:
        return {"": cell[1]}, cell[0]
    if table == "job" and len(cell) > 1:
        forms = {"": cell[0], ".m": cell[0], ".f": cell[1]}
        if len(cell) == 4:
            forms |= {"ins.m": cell[2], "ins.f": cell[3]}
        return forms, "m"
    if table == "party" and len(cell) == 3:
        return {"": cell[1], "acc": cell[0], "gen": cell[2]}, "f"
    assert len(cell) == 1, (table, language, cell)
    return {"": cell[0]}, "m"
