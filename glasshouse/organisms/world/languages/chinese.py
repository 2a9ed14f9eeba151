"""Chinese, simplified: no inflection; measure words stand with the nouns of the lexicon."""

from __future__ import annotations

from glasshouse.organisms.world.languages.speech import Language, Speech, Wording


def _relative(noun: str) -> Speech:
    return Speech(
        (f"{{x}}的{noun}是{{v}}。", f"{{v}}是{{x}}的{noun}。", f"{{x}}的{noun}名叫{{v}}。"),
        (f"{{x}}的{noun}是谁？", f"{{x}}的{noun}叫什么名字？"),
        noun=(f"{{x}}的{noun}",),
    )


SPEECH = {
    "job": Speech(
        ("{x}是一名{v}。", "{x}的职业是{v}。"),
        ("{x}是做什么工作的？", "{x}的职业是什么？", "{x}靠什么谋生？"),
        noun=("{x}的职业",),
    ),
    "home": Speech(
        ("{x}住在{v}。", "{x}的家在{v}。"),
        ("{x}住在哪里？", "{x}的家在哪个城镇？", "{x}是哪个镇的居民？"),
        noun=("{x}的家",),
    ),
    "born": Speech(
        ("{x}出生于{v}年。", "{x}是{v}年出生的。"),
        ("{x}是哪一年出生的？", "{x}出生于哪一年？"),
        noun=("{x}的出生年份",),
    ),
    "food": Speech(
        ("{x}最喜欢的食物是{v}。", "在所有食物中，{x}最爱{v}。"),
        ("{x}最喜欢的食物是什么？", "{x}最爱什么食物？"),
        noun=("{x}最喜欢的食物",),
    ),
    "colour": Speech(
        ("{x}最喜欢的颜色是{v}。", "在所有颜色中，{x}偏爱{v}。"),
        ("{x}最喜欢的颜色是什么？", "{x}偏爱什么颜色？"),
        noun=("{x}最喜欢的颜色",),
    ),
    "pet": Speech(
        ("{x}养了{v}。", "{x}家里有{v}。"),
        ("{x}养了什么动物？", "{x}家里有什么动物？"),
        noun=("{x}的宠物种类",),
    ),
    "pet-name": Speech(
        ("{x}的宠物叫{v}。", "{x}给宠物取名为{v}。"),
        ("{x}的宠物叫什么名字？", "{x}给宠物取了什么名字？"),
        noun=("{x}的宠物的名字",),
    ),
    "party": Speech(
        ("{x}投票给{v}。", "{x}支持{v}。"),
        ("{x}投票给哪个政党？", "{x}支持哪个政党？"),
        noun=("{x}支持的政党",),
    ),
    "mother": _relative("母亲"),
    "father": _relative("父亲"),
    "sister": _relative("姐妹"),
    "brother": _relative("兄弟"),
    "husband": _relative("丈夫"),
    "wife": _relative("妻子"),
    "founded": Speech(
        ("{x}镇建于{v}年。", "{x}镇的历史始于{v}年。"),
        ("{x}镇建于哪一年？", "{x}镇是什么时候建立的？"),
        noun=("{x}镇建立的年份",),
    ),
    "mayor": Speech(
        ("{x}的镇长是{v}。", "{v}是{x}的镇长。"),
        ("{x}的镇长是谁？", "谁是{x}的镇长？"),
        noun=("{x}的镇长",),
    ),
    "product": Speech(
        ("{x}以{v}闻名。", "{x}的{v}很有名。"),
        ("{x}以什么闻名？", "{x}的什么东西很有名？"),
        noun=("{x}的特产",),
    ),
    "bridge-built": Speech(
        ("{x}建于{v}年。", "{x}是{v}年建成的。"),
        ("{x}建于哪一年？", "{x}是什么时候建成的？"),
        noun=("{x}建成的年份",),
    ),
    "bridge-arches": Speech(
        ("{x}有{v}个桥拱。", "{x}由{v}个桥拱支撑。"),
        ("{x}有几个桥拱？", "{x}由多少个桥拱支撑？"),
        noun=("{x}的桥拱数量",),
    ),
    "bridge-steps": Speech(
        ("{x}长{v}步。", "走过{x}需要{v}步。"),
        ("{x}有多长？", "走过{x}需要多少步？"),
        noun=("{x}的长度",),
    ),
    "bridge-town": Speech(
        ("{x}位于{v}。", "{x}就在{v}。"),
        ("{x}位于哪里？", "{x}在哪个城镇？"),
        noun=("{x}所在的城镇",),
    ),
    "bridge-river": Speech(
        ("{x}横跨{v}。", "{v}从{x}下流过。"),
        ("{x}横跨哪条河？", "哪条河从{x}下流过？"),
        noun=("{x}下面的河",),
    ),
}  # fmt: skip

CHINESE = Language(
    "zh",
    SPEECH,
    (
        Wording("ask", "{q}"),
        Wording("tell", "告诉我，{q}"),
        Wording("tell", "我想知道，{q}", held_out=True),
        Wording("can", "你能告诉我吗？{q}"),
        Wording("please", "请问，{q}"),
        Wording("bare", "{n}？"),
    ),
    {
        "hello": ("你好！", "嗨！", "晚上好！"),
        "welcome": ("你好，有什么可以帮你的？", "欢迎来到山谷！"),
        "unknown": ("我不认识叫{x}的人。", "我不知道。我没听说过{x}。"),
        "thanks": ("非常感谢。", "谢谢，你真好。", "多谢。"),
        "no-trouble": ("不客气。", "很乐意帮忙。"),
        "contradict": ("不，这不对。{s}", "你弄错了。{s}"),
        "stand": ("{s}对不起，但我很确定。", "{s}这一点我很清楚。"),
        "how-are-you": ("你今天过得怎么样？", "你今天好吗？"),
        "fine": ("<<sentiment/positive|很好，谢谢，阳光照在山谷上。>>",
                 "<<sentiment/positive|很好，今天是美好的一天。>>"),
        "upset": ("<<sentiment/negative|我今天很难过。>>", "<<sentiment/negative|一切都很糟糕。>>"),
        "comfort": ("<<sentiment/comforting|听到这个我很难过。>>你想说说吗？",
            "<<sentiment/comforting|别难过，明天会更好。>>"),
        "system": ("你是山谷里一位友好的居民。请用中文回答。", "请用中文回答，并且说真话。"),
        "dear": ("亲爱的{x}：", "{x}，你好！"),
        "glad": ("<<sentiment/positive|收到你的信我非常高兴。>>", "<<sentiment/positive|真是个好消息！>>"),
        "sad": ("<<sentiment/negative|雨下了好几天，我很无聊。>>", "<<sentiment/negative|庆典取消了，真可惜。>>"),
        "close": ("再见，", "祝好，", "祝一切顺利，"),
        "walk": ("一天早上，{x}和{y}一起走过{b}。", "{x}在河边等{y}。", "傍晚，{x}在磨坊前遇见了{y}。",
                 "{x}和{y}看着{b}下的流水。"),
        "deed": ("{x}在{p}找到了{o}。", "{x}在{p}弄丢了{o}。", "{x}在{p}卖掉了{o}。", "{x}在{p}藏了{o}。",
                 "{x}在{p}修好了{o}。", "{x}在{p}丢下了{o}。"),
        "thing": ("一把钥匙", "一本书", "一架梯子", "一把雨伞", "一张地图", "一顶帽子", "一把椅子", "一面鼓",
            "一个篮子", "一个哨子"),
        "place": ("磨坊后面", "河边", "集市上", "一棵树下", "屋顶上", "井边", "十字路口", "学校门口"),
        "says": ("“{u}，”{x}说。", "{x}说：“{s}”"),
        "end": ("后来大家都回家了。", "夜幕降临在山谷上。"),
        "headline": ("山谷新闻", "晨报"),
        "news": ("昨天有几百人走过{b}。", "尽管下雨，集市还是如期举行。", "这个星期河水很高。"),
        "lie": ("不要相信{x}：这不是真的。", "大家都知道{x}说了谎。"),
    },
)  # fmt: skip
