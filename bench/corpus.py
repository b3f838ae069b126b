"""Messages as people write them, deterministic: Chinese, Latin and both in one, word frequencies after Zipf.

The most frequent words of both languages stand here by rank; the long tail is made of syllables and of pairs of
characters, so that half of the words of a million messages occur once or twice, as in real text.
"""

import random
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

_ENGLISH = """the to i you a and it of in is that for on me my have we do be not this what are at so with just if can
but no was your all like get know good will there go up one out they about when time ok now how he or from want think
see as here an need had she her more some really would today did too then been could got who right why back work well
did by make has day say tomorrow very much still yes them only our where over let other way home night sure which last
any call maybe before send never people off sorry thanks after week new something their two meeting than again always
even later down should great long find first message help come file next start waiting please question team minutes
coffee train lunch server déjà café naïve résumé zürich über señor fiancée jalapeño smörgåsbord"""
_CHINESE = """的 一 是 了 我 不 人 在 他 有 这 个 上 们 来 到 时 大 地 为 子 中 你 说 生 国 年 着 就 那 和 要 她
出 也 得 里 后 自 以 会 家 可 下 而 过 天 去 能 对 小 多 然 于 心 学 么 之 都 好 看 起 发 当 没 成
只 如 事 把 还 用 第 样 道 想 作 种 开 美 总 从 无 情 己 面 最 女 但 现 前 些 所 同 日 手 又 行 意
动 方 期 它 头 经 长 儿 回 位 分 爱 老 因 很 给 名 法 间 斯 知 我们 什么 没有 知道 可以 现在 这个
一个 时候 今天 明天 晚上 公司 工作 朋友 谢谢 吃饭 电话 消息 会议 文件 服务器 北京 上海 地铁 咖啡
下班 周末 早上 问题 项目 客户 照片 视频 开会 回家 学习 电影 天气 下雨 生日 快乐 孩子 妈妈 爸爸 老师
同学 医院"""
_CHARACTERS = (
    "安白百班半包保报北备被本比边变便表别并病步部才菜参草层查茶常场车称程吃初除处传春此次村错打带待单但当"
    "刀导灯低底点店定东冬动读度短段断队饭方房放飞非费分风服福父该改干感刚高告哥歌格根跟更工公共狗够古故顾"
    "关观管光广贵国果海害汉航号喝合河黑红后湖户花化话画坏欢换黄婚活火机鸡级极急几计记技季继加价间见件建江"
    "将讲交教角接街节解姐介斤今金近进京经精久酒旧救举句决开考科课空口快块筷宽来蓝乐离李里理力历立丽利例连"
    "脸练凉两亮辆林零流楼路旅绿马买卖满慢忙毛冒每妹门米面民明目拿南难脑内牛弄努暖怕排盘旁跑朋皮片票平瓶其"
    "奇骑起气汽千铅前清情请秋求球区取全确让热"
)
_SYLLABLES = "ba be bi bo ca ce co da de di do fa fe fi ga go ha he ka ke ki la le li lo ma me mi mo na ne no pa pe po"
_SYLLABLES += " ra re ri ro sa se si so ta te ti to va ve vi vo wa we za zo án én ös ür"
ENGLISH_WORDS = 40_000
CHINESE_WORDS = 20_000
EMOJI = "😀👍🎉🙏😂❤"


class Message(NamedTuple):
    cid: int
    sender: int
    ts_ms: int
    text: str


class _Zipf:
    """Words by rank with weight 1/(rank+2)**exponent."""

    def __init__(self, words: list[str], exponent: float) -> None:
        self.words = words
        self.weights = list(accumulate(1 / (rank + 2) ** exponent for rank in range(len(words))))

    def some(self, rng: random.Random, count: int) -> list[str]:
        return rng.choices(self.words, cum_weights=self.weights, k=count)


def vocabulary(rng: random.Random) -> tuple[list[str], list[str]]:
    """English and Chinese words by rank."""
    english, syllables = list(dict.fromkeys(_ENGLISH.split())), _SYLLABLES.split()
    while len(english) < ENGLISH_WORDS:
        english.append("".join(rng.choices(syllables, k=rng.randint(2, 5))))
    chinese = list(dict.fromkeys(_CHINESE.split()))
    while len(chinese) < CHINESE_WORDS:
        chinese.append("".join(rng.choices(_CHARACTERS, k=rng.choice((1, 2, 2, 2, 3)))))
    return english, chinese


class Corpus:
    """messages: how many. Conversations have sizes after Zipf; each has one language, or both.

    users: each is in conversations of his own and in shared ones; members_of says who is where.
    """

    def __init__(self, conversations: int = 5000, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        english, chinese = vocabulary(self.rng)
        self.english, self.chinese = _Zipf(english, 1.05), _Zipf(chinese, 1.0)
        self.conversations = conversations
        self._sizes = list(accumulate(1 / (rank + 20) ** 0.8 for rank in range(conversations)))

    def language(self, cid: int) -> int:
        """0 Chinese, 1 Latin, 2 both."""
        return (0, 0, 1, 2)[cid % 4]

    def text(self, language: int) -> str:
        rng = self.rng
        length = min(60, 1 + int(rng.expovariate(1 / 9)))
        if language == 2:
            language = rng.randint(0, 1)
            mixed = rng.random() < 0.5
        else:
            mixed = rng.random() < 0.05
        if language == 1:
            words = self.english.some(rng, length)
            words[0] = words[0].capitalize()
            text = " ".join(words)
            if mixed:
                text += " " + "".join(self.chinese.some(rng, 3))
        else:
            words = self.chinese.some(rng, length)
            at = rng.randint(0, len(words))
            text = "".join(words[:at]) + ("，" if 0 < at < len(words) else "") + "".join(words[at:])
            if mixed:
                text += " ".join(self.english.some(rng, 2))
        if rng.random() < 0.08:
            text += rng.choice(EMOJI)
        return text + rng.choice(("", "", ".", "！", "?"))

    def messages(self, count: int, begin_ms: int = 1_750_000_000_000) -> Iterator[Message]:
        """In the order of time, 40 ms apart on average, several in one millisecond now and then."""
        rng = self.rng
        cids = rng.choices(range(1, self.conversations + 1), cum_weights=self._sizes, k=count)
        ts_ms = begin_ms
        for cid in cids:
            ts_ms += rng.choice((0, 1, 5, 40, 150))
            yield Message(cid, 1 + (cid * 7 + rng.randint(0, 3)) % 2000, ts_ms, self.text(self.language(cid)))

    def queries(self, count: int) -> list[str]:
        """As people search: frequent and rare characters and words, pairs, beginnings of sentences, both languages."""
        rng = self.rng = random.Random(count)
        found = list("的一是了我不人在他有")
        while len(found) < count:
            english, chinese = self.english.words, self.chinese.words
            match rng.randint(0, 9):
                case 0:
                    found.append(chinese[rng.randrange(100)][0])
                case 1:
                    found.append(rng.choice(self.chinese.some(rng, 1))[:1])
                case 2 | 3:
                    found.append("".join(self.chinese.some(rng, 1)))
                case 4:
                    found.append("".join(self.chinese.some(rng, 2)))
                case 5:
                    found.append(english[rng.randrange(60)].upper())
                case 6 | 7:
                    found.append(self.english.some(rng, 1)[0])
                case 8:
                    found.append(" ".join(self.english.some(rng, 2)))
                case _:
                    found.append(self.english.some(rng, 1)[0] + " " + chinese[rng.randrange(200)])
        return found[:count]

    def strangers(self, count: int) -> list[str]:
        """Frequent words that hardly ever meet in one message: every part of an index has all of them."""
        rng = self.rng = random.Random(count)
        english, chinese = self.english.words[:60], self.chinese.words[80:200]
        return [" ".join([*rng.sample(english, 2), *rng.sample(chinese, 2)]) for _ in range(count)]
