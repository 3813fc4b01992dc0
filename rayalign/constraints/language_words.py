"""Common words of languages that share a script, and letters that only one of them has.

In Latin script none of one plain letter: `P.S.` is in no language.
"""

# ruff: noqa: RUF001 - letters of all scripts

from __future__ import annotations

WORDS = {
    "cs": "je se na že to do za po jsem jsou by byl byla bylo ale jak tak jako ve pro od při které který která není "
    "nebo už když jen své může aby",
    "de": "der die das und ist nicht ein eine einen einem einer ich du er sie es wir ihr zu den dem des von mit auf "
    "für im in an auch sich wie aber oder bei aus nach so wenn nur noch war sind hat haben wird werden kann "
    "dass über sehr",
    "en": "the and of to in is it that you he she was for on are with as his her they at be this have from or had by "
    "not but what all were we when your can there an which their if will how about out so has more would my me "
    "who its no do some than into them our these",
    "es": "el la los las de del en que un una unos es por para con no se su sus lo al como más pero muy ya este esta "
    "son fue ser está hay también cuando sin sobre todo nos me mi yo tu le porque desde entre si qué ha han",
    "fi": "ja on ei se että hän oli mutta ovat joka myös kun niin kuin mitä tämä sen sitä ole minä sinä he me te voi "
    "vain jos tai nyt hyvin paljon olen olla jotka sekä kanssa ennen jälkeen siitä sitten",
    "fr": "le la les de des du et en un une est que qui dans pour pas sur au aux par plus avec ce cette ces il elle "
    "ils elles nous vous je ne se sa son ses mais ou où sont être avoir été comme tout très fait si leur leurs",
    "hu": "az és hogy nem is egy ez volt van de meg csak ki már mint el kell én te ő azt vagy még ezt ha most minden "
    "nagyon lehet szép amely akkor után",
    "it": "il lo la gli le di del della dei delle è che un una uno in per con non si su da dal dalla nel nella sono "
    "al alla come ma più anche questo questa io mi ti ci ha hanno essere molto se loro quando tutto era",
    "nl": "de het een en van ik is dat in te niet op zijn voor met die aan er om ook als dan maar door bij naar uit "
    "nog je we ze hij hebben heeft worden wordt kan deze over onze wij zeer geen was werd veel",
    "pl": "na się nie że to do jest jak po co ale dla od za są był była było być przez tego ten ta przy który która "
    "które oraz tylko już też bardzo może jego jej czy ich gdy więc",
    "pt": "os as de do da dos das em no na nos nas que um uma é para por com não se seu sua mais mas como ao aos à "
    "foi ser está são muito também isso este esta ele ela eu você quando sem sobre entre já há ou pelo pela",
    "ro": "și în de la cu pe nu este că un ce din pentru mai sunt fi care sau dar se au fost ca dacă lui el ea acest "
    "această foarte prin după când fiecare doar",
    "sv": "och att det en är som på för med av till den inte har jag om ett han hon men var de så vi kan från ska "
    "eller när mycket också bara vid efter utan finns hade skulle sig sin",
    "sw": "na ya wa kwa ni la za katika cha kuwa hii hiyo kama pia si lakini au yake yao wake watu sana huu huo kila "
    "vya zaidi mimi wewe yeye sisi ambayo ambao hivyo bila baada kabla",
    "tr": "ve bir bu da de için ile çok ne mi mı ben sen biz siz gibi daha ama en var yok olan olarak değil kadar "
    "her sonra ya şey ki diye çünkü ise olduğu",
    "vi": "và là của có không các cho được trong một những người với này đã để ở từ khi về như cũng ra đó tôi bạn "
    "chúng ta sẽ thể hơn nhưng rất vào hay đến nhiều làm",
    "bg": "и на да е се за от не са в с по като че това ще той тя но как си до или към при много може след със във "
    "беше този тази има още което който която",
    "ru": "и в не на что я с он она они как это по но к у из за от так же все было был была мы вы для или бы о его "
    "её их если только очень когда уже есть быть который которая которые также",
    "uk": "і й в у не на що я з із він вона вони як це по але до за від так та ж все було був була ми ви для або би "
    "про його її їх якщо тільки дуже коли вже є бути який яка які також",
    "ar": "في من على إلى أن هذا هذه التي الذي ما لا كان كانت هو هي مع عن ذلك كل بعد قبل بين أو ثم لم لن قد إن كما أي "
    "عند حتى و يا نحن أنا",
    "fa": "و در به از که این است را با برای آن می یک خود تا های ها شود شد بود هم بر اما یا هر کرد کند ما من شما نیز "
    "باید اگر چه دارد هستند بسیار",
    "ur": "کے میں کی ہے اور کا سے کو نے پر یہ ہیں کہ اس ایک تھا تھی بھی ہو کر لئے لیے نہیں جو وہ تو ہم آپ ان گیا "
    "اپنے یا تک ہوں بہت",
    "hi": "है हैं में के की का को और से पर यह वह नहीं एक था थी थे भी हो कि जो तो लिए ने कर मैं हम आप इस उस ही या "
    "बहुत गया अपने किया होता",
    "mr": "आहे आहेत आणि मध्ये हे ही तो ती या च्या होते होता होती नाही एक मी आम्ही तुम्ही साठी पण व त्या त्याने असे "
    "आपण म्हणून किंवा खूप करून जे ते",
    "ne": "छ छन् हो र मा को गर्न पनि थियो यो लागि भएको गरेको छैन म हामी तपाईं एक त्यो लाई बाट तर वा धेरै हुन्छ गर्छ "
    "भने का की ले यस गर्दछ",
}
LETTERS = {
    "cs": "ěřů",
    "de": "ß",
    "es": "ñ¿¡",
    "hu": "őű",
    "pl": "łśźżćń",
    "pt": "ãõ",
    "ro": "șț",
    "tr": "ğı",
    "vi": "đơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ",
    "ru": "ыэё",
    "uk": "іїєґ",
    "ar": "ةىكي",
    "fa": "پچژ",
    "ur": "ٹڈڑںےھ",
    "mr": "ळ",
}
