"""Words that say nothing about a topic, per language: articles, pronouns, auxiliaries, question words, particles.

`language` recognises a language by them, and the analyzer leaves them out of the index. Those of English include what
is left of a form without its apostrophe. For a language written without spaces they are runs of characters.
"""

from __future__ import annotations

import unicodedata
from functools import cache

_WORDS = {
    "en": """
        a about above after again against ain all also am an and any are aren as at be because been before being
        below between both but by can cannot could couldn d did didn do does doesn doing don done down during each
        either else ever every few for from further get gets getting go goes going gonna got had hadn has hasn have
        haven having he her here hers herself him himself his how however i if in into is isn it its itself just let
        lets ll m many may me might mine more most much must mustn my myself need needn no nor not now o of off oh
        ok okay on once one only onto or other others ought our ours ourselves out over own please per quite rather
        re really s said same say says shall shan she should shouldn since so some such t than that the their theirs
        them themselves then there these they this those though through thus to too under until up upon us ve very
        via was wasn we well were weren what when where whether which while who whom whose why will with within
        without won would wouldn y yeah yes yet you your yours yourself yourselves""",
    "de": """
        aber alle allem allen aller alles als also am an ander andere anderen anderer anderes auch auf aus außer bei
        beim bin bis bist bitte da dabei dafür dagegen daher damals damit danach daran darauf daraus darf darin
        darum darüber das dass davon dazu dein deine deinem deinen deiner dem den denen denn der deren des dessen
        dich die dies diese diesem diesen dieser dieses dir doch dort du durch ebenfalls eben eh eher eigentlich ein
        eine einem einen einer eines einfach einige einigen einmal er erst es etwa etwas euch euer eure eurem euren
        für gab ganz gar gegen gehabt genau gerade gewesen gibt hab habe haben habt halt hast hat hatte hatten
        hattest hätte hätten her hier hin hinter hinein ich ihm ihn ihnen ihr ihre ihrem ihren ihrer ihres im immer
        in indem ins irgend irgendwas irgendwie ist ja jede jedem jeden jeder jedes jedoch jemand jene jenem jenen
        jener jenes jetzt kann kannst kein keine keinem keinen keiner konnte konnten könnte könnten können könntest
        mal man manche mein meine meinem meinen meiner mich mir mit möchte muss musst musste müssen müsste nach
        nachdem ne neben nein nicht nichts noch nun nur ob obwohl oder ohne schon sehr seid sein seine seinem seinen
        seiner seines seit selbst selber sich sie sind so sobald solche solchem solchen solcher soll sollen sollst
        sollte sollten sondern sonst soweit sowie statt trotzdem über überhaupt um und uns unser unsere unserem
        unseren unserer unter viel vom von vor war waren warst warum was weg weil weiter welche welchem welchen
        welcher welches wem wen wenn wer werde werden werdet wessen weshalb wie wieder wieso will wir wird wirklich
        wirst wo wobei wodurch wofür woher wohin wohl wollen wollte wollten womit wonach woran worauf woraus worin
        worüber wovon wovor wozu während wäre wären würde würden wurde wurden zu zum zur zwar zwischen""",
    "fr": """
        à afin ai aie combien ainsi alors après as au aucun aucune auquel aussi autre autres aux avaient avais avait
        avant avec avez aviez avions avoir avons ayant bah beaucoup bien c ça car ce ceci cela celle celles celui
        cependant ces cet cette ceux chaque chez comme comment d dans de déjà depuis des dès donc dont du durant
        elle elles en encore enfin entre es est et étaient étais était étant été êtes être eu eux fait faire fais
        faut fois fut grâce hors ici il ils j je jusque l la là laquelle le lequel les lesquelles lesquels leur
        leurs lors lorsque lui m ma mais me même mêmes mes mieux mis moi moins mon n ne ni non nos notre nôtre nous
        on ont ou où oui par parce parfois pas pendant peu peut peuvent peux plus plusieurs plutôt pour pourquoi
        pourrait pouvez puis puisque qu quand que quel quelle quelles quels quelque quelques qui quoi s sa sans se
        selon sera serait ses si sinon soit sommes son sont sous souvent suis sur t ta tandis tant te tel telle
        telles tels tes toi ton toujours tous tout toute toutes très trop tu un une va vais vers veut veux vos votre
        vôtre voilà voici vont vous y""",
    "es": """
        a acá ahí ahora al algo algún alguna algunas alguno algunos allá allí ambos ante antes aquel aquella
        aquellas aquello aquellos aquí así aún aunque bajo bien cada casi como cómo con contra cual cuál cuales
        cuáles cualquier cuando cuándo cuanto cuánto cuánta cuántas cuántos cuya cuyo da dar de del desde después
        donde dónde dos durante e el él ella ellas ello ellos en entonces entre era eran eras eres es esa esas ese
        eso esos esta está están estaba estaban estamos estar estas este esto estos estoy etc fue fueron fui ha
        había habían haber hace hacer hacia han has hasta hay he hemos la las le les lo los luego más me mediante mi
        mí mía mío mis mientras mismo misma mismos mucho muchos muy nada ni ningún ninguna no nos nosotros nuestra
        nuestras nuestro nuestros o os otra otras otro otros para pero poco por porque porqué pues puede pueden
        puedo que qué quien quién quienes sea según ser será si sí sido siempre sin sino sobre sois solo sólo somos
        son soy su sus suya suyo también tampoco tan tanto te tenemos tener tengo ti tiene tienen toda todas todo
        todos tras tu tú tus tuve tuvo un una unas uno unos usted ustedes va vamos van vaya y ya yo""",
    "pt": """
        a à agora ai ainda algo antes deve devem algum alguma algumas alguns além ali ao aos apenas aquela aquelas
        aquele aqueles aquilo aqui as às assim até através bem cada com como contra cada da daí daquela daquele das
        de dela delas dele deles depois desde dessa desse desta deste disso disto do dos e é ela elas ele eles em
        enquanto então entre era eram essa essas esse esses esta está estamos estão estar estas estava estavam este
        estes estou eu fazer faz foi fomos for foram fosse fui há havia isso isto já lá lhe lhes logo mais mas me
        mesma mesmas mesmo mesmos meu meus mim minha minhas muita muitas muito muitos na nada não nas nela nele nem
        nenhum nenhuma nessa nesse nesta neste no nos nós nossa nossas nosso nossos num numa o onde os ou outra
        outras outro outros para pela pelas pelo pelos per perante pode podem posso por porque porquê pois porém
        pouco pra pro próprio qual quais qualquer quando quanto quantos quantas quanta que quê quem se seja sem
        sempre sendo ser será seu seus si sido só sob sobre somos sou sua suas também tão te tem têm temos tenho ter
        teu teus teve tinha tinham toda todas todo todos tu tua tuas tudo um uma umas uns vai vamos vão você vocês
        vos""",
    "it": """
        a abbia abbiamo agli ai al alcuni alcune alla alle allo allora altra altre altri altro anche ancora appena
        avere aveva avevano avete c che chi ci cioè col come con contro cosa cosi così cui da dagli dai dal dalla
        dalle dallo degli dei del della delle dello dentro di dietro dopo dove due dunque durante e è ecco ed era
        erano essere fa fare fino fra fu gia già gli ha hai hanno ho i il in infatti insieme invece io la là le lei
        li lo loro ma mai me meglio mentre mi mia mie miei mio molto molti ne né negli nei nel nella nelle nello
        nessuno niente no noi non nostra nostre nostri nostro o ogni ok oppure ora per perché perchè però più poco
        poi prima proprio può qua quale quali qualche qualcosa quando quanto quasi quella quelle quelli quello
        questa queste questi questo qui quindi se sei sempre senza si sì sia siamo siete solo sono sopra sotto sta
        stata stati stato stesso su sua sue sugli sui sul sulla sulle suo suoi tale tanto te ti tra tu tua tue tuo
        tuoi tutta tutte tutti tutto un una uno va vi voi vostra vostro""",
    "nl": """
        aan al alle alleen als altijd andere anders ben bij bijna daar daarna dan dat de deze die dit doch doen door
        dus een eens en enkele er erg ge geen geweest haar had hadden heb hebben heeft hem het hier hij hoe hun
        iemand iets ik in is ja je jij jou jouw jullie kan kon konden kunnen maar me meer men met mij mijn moest
        moet moeten na naar niet niets nog nu of om omdat onder ons onze ook op over reeds te tegen toch toen tot u
        uit uw van vanaf veel voor waar waarom wanneer want waren was wat we weer wel welke werd werden wie wij wil
        worden wordt zal ze zei zelf zich zij zijn zo zonder zou zouden""",
    "sv": """
        alla allt än är att av bara bli blir blev de dem den denna deras dess dessa det detta dig din dina ditt du
        där då efter eller en er ett från för ha hade han hans har henne hennes hon honom hur här i icke in inom
        inte jag ju kan kunde man med mellan men mig min mina mitt mot mycket ni nu något någon några när och om oss
        på samma sedan sig sin sina sitt ska skulle som så till under upp ut utan vad var vara varför varit vars
        vart vem vi vid vilka vilken vilket vår våra å åt över också eftersom finns göra måste nog kommer""",
    "da": """
        af alle alt at bare blev blive bliver da de dem den denne der deres det dette dig din dine disse dog du
        efter eller en end er et for fordi fra ham han hans har havde have hende hendes her hos hun hvad hvem hver
        hvilken hvis hvor hvordan hvorfor hvornår i ikke ind jeg jer jo kan kunne lige man mange med meget men mig
        min mine mit mod må nej nogen noget nogle nu når og også om op os over på selv sig sin sine sit skal skulle
        som sådan så til ud under var ved vi vil ville vor være været""",
    "no": """
        alle alt at av bare ble bli blir da de deg dem den denne der deres det dette din dine disse dit du eller en
        enn er et ett etter for fordi fra før ha hadde han hans har hennes her hun hva hvem hver hvilken hvis hvor
        hvordan hvorfor i ikke inn ja jeg kan kunne man mange med meg meget mellom men mer min mine mitt mot må ned
        noe noen nå når og også om opp oss over på seg selv si sin sine sitt skal skulle slik som så til ut uten var
        ved vi vil ville være vært vår""",
    "fi": """
        ei eikä eivät emme en ennen entä et että hän häntä hänen he heidän hänelle ihan ilman itse ja jo joka jonka
        jos joten jotka jotta kai kanssa kaikki koska kuin kuinka kuitenkin kun kuka kyllä me mihin mikä miksi
        milloin minkä minun minä missä mistä miten mitä mukaan mutta muu myös näin ne niiden niin nuo nyt nämä ole
        olen olet oli olin olisi olla olleet ollut on ovat sekä se sen siellä siis siitä sinun sinä sitten sitä tai
        tämä tämän te tulee tuo tässä vaan vai vain vaikka vielä voi yli""",
    "pl": """
        a aby ale albo ani az aż bardzo bez będzie bo by być był była było były chyba ci co czego czy czyli dla
        dlaczego do gdy gdzie go i ich ile im inne iż ja jak jaka jaki jakie jako je jeden jednak jego jej jest
        jestem jeszcze jeśli jeżeli już każdy kiedy kto która które którego który których którzy lub ma mam mi mnie
        może można mój moja mu my na nad nam nas nasz nic nich nie niej nigdy nim niż no o od on ona one oni ono
        oraz pan po pod ponieważ przed przez przy są się skąd sobie swoje ta tak taki takie także tam te tego tej
        ten teraz też to tobie trzeba tu tutaj twój ty tych tylko tym u w we wszystko wszystkie właśnie z za zawsze
        ze że żeby""",
    "cs": """
        a aby ale ani ano asi až bez bude budou by byl byla bylo byly být co což či do ho i jak jaké jako je jeho
        její jejich jen jenom ještě ji jí jim jiné již jsem jsi jsme jsou jste k kam kde kdo kdy když ke která které
        který kteří ma má mám máme mě mezi mi mít mne mně mnoho mu můj může my na nad nám nás naše ne nebo nebyl
        není než nic o od on ona oni pak po pod podle pokud potom pouze právě pro proč proto protože při s se si
        sice své svůj ta tak také takže tam te tě tedy ten tento teď to toho tom tomu tuto tu ty u už v vám vás ve
        vy však všechno z za zde ze že""",
    "hu": """
        a az ami amely amikor az azért azok azt be belőle bár csak de e egy egyik el elég én ennek ez ezek ezt ezért
        fel ha hanem hiszen hogy hogyan hol ill ilyen is itt jó jól kell ki kinek kérem le lehet lenne lesz ma maga
        már még meg mely mert mi mik mikor mint mivel most mit miért nagyon ne nekem neki nem nincs ő ők olyan ott
        össze sem semmi szerint talán te tehát után van vannak vagy vagyok valami volt voltak""",
    "ro": """
        a acea această aceasta acest acesta acestea aceste acolo acum ai aici al ale am ar are as aș asta atunci au
        avea aveau ca că când care ce cel cele cine cum cu cât da dacă dar de deci decât deja din după dumneavoastră
        ei el ele era erau este eu face fără fi fie fiecare fost i iar în încă între la le li lor lui mă mai mea
        mele meu mi mult n ne nici nimic nu o or ori pe pentru peste poate prin sa să sale sau se si și sunt sus te
        ta tău toate tot toți tu un una unde unei unele unor unui va voi vom vor""",
    "tr": """
        acaba ama ancak artık aslında az bana bazı belki ben benim beri bile bir biraz biri birkaç biz bize bizim bu
        buna bunda bundan bunlar bunu bunun burada çok çünkü da daha de değil diye dolayı en evet gibi göre hangi
        hatta hem hep hepsi her hiç için ile ise işte ki kim kimse mi mı mu mü nasıl ne neden nerede nereye niçin
        niye o olan olarak oldu olduğu olsa olur ona onlar onu onun orada oysa pek rağmen sadece sanki sen senin siz
        şey şimdi şu şunu tüm ve veya var vardı ya yani yok zaten""",
    "id": """
        ada adalah agar akan aku anda apa apakah atau bagaimana bagi bahwa banyak bisa boleh dalam dan dapat dari
        dengan di dia harus hanya ini itu jadi jangan jika juga kalau kami kamu kapan karena ke kenapa kepada kita
        lagi lah lebih maka mana masih mereka mengapa oleh pada saat saja sangat saya sebagai sebelum sedang
        sekarang seperti siapa sudah supaya tapi telah tentang tetapi tidak untuk yang""",
    "ca": """
        a així això al als altra altre amb aquell aquella aquest aquesta aquests avui bé cada com de dels del
        després doncs el ella ells els em en encara ens entre era és és ser et eren estan està estava fer fins ha
        havia han hem hi ho i ja jo l la les li llavors m meu meva més mi mentre molt n ni no nosaltres nostre o on
        per però perquè poc què qual quan que qui quina s sense seu seva si sí som són sota sobre també te tot tota
        tots un una uns va vam van""",
    "vi": """
        và là của có không được cho với này đó thì mà các những một như để trong khi ở từ đã đang sẽ rất cũng nhưng
        vì nên nếu hay hoặc tôi bạn anh chị em nó họ chúng ta gì sao nào đâu ai bao giờ thế vậy rồi lại ra vào lên
        xuống đến về theo bởi do còn chỉ đều mỗi mọi""",
    "ru": """
        а без более больше будет будто бы был была были было быть в вам вас вдруг ведь во вот впрочем все всегда
        всего всех всё всю вы где да даже для до его ее её ей если есть еще ещё ж же за зачем здесь и из или им
        иногда их к каждый кажется как какая какие какой когда кого ком кому конечно который которая которое которые
        кто куда ли либо лишь лучше между меня мне много может можно мой моя моё мои мы на над надо наконец нас наш
        наша не него нее неё ней нельзя нет неужели ни нибудь никогда ним них ничего но ну о об один однако он она
        они оно опять от откуда очень перед по под после потом потому почему почти при про просто раз разве с сам
        само сама своей свой свою себе себя сейчас со совсем так также такой там тебе тебя тем теперь то тогда того
        тоже той только том тот тут ты у уж уже хоть чего чей чем через что чтоб чтобы чуть эта эти этих это этого
        этой этом этому этот эту я""",
    "uk": """
        а або але без би був була були було бути в вам вас ви від він вона вони воно все всі де для до дуже же за з
        зі із і й його її їх їм їй йому коли крім ку ледь лише між мене мені ми мій моя моє мої може можна на над
        нам нас наш не нею неї ним них ні ну о об однак ось от по під після при про саме своє свої себе собі та так
        також там те ти тільки тим то тоді того той тому тут у ще щоб що це цей ця ці цього чи чого чому через хто
        як яка який які якщо яке я є""",
    "el": """
        και να το η ο οι τα του της την τον των τις τους στο στη στην στον στα στις με σε για από που πως ότι δεν μη
        μην θα είναι ήταν έχει έχω είχε ένα μια ένας αυτό αυτός αυτή αυτά τι ποιος πώς πότε πού γιατί αν αλλά ή όχι
        ναι μου σου μας σας κι ως όταν όπως πολύ εγώ εσύ εμείς""",
    "ar": """
        في من إلى على عن أن إن كان كانت يكون هو هي هم هذا هذه ذلك تلك التي الذي الذين ما ماذا متى أين كيف لماذا هل
        لا لم لن ليس قد كل بعض غير بعد قبل عند مع أو أم ثم لكن بل إذا لو حتى منذ بين تحت فوق أنا أنت نحن كما أي أيضا
        لقد هناك هنا و ف ب ل""",
    "fa": """
        و در به از که این را با است برای آن یک خود تا کرد بر هم نیز گفت می شود شد ما اما یا باید هر آنها بود او دیگر
        پس اگر همه نه دو چه چرا کجا چطور کی من تو شما""",
    "he": """
        של את על לא זה עם כל אם הוא היא הם אני אתה אנחנו גם רק או כי אבל יש אין היה היתה היו מה מי איך למה מתי איפה
        איזה האם כמו עוד כבר אז שם פה כאן לי לו לה להם לנו שלי שלו שלה שלנו זאת אלה אחרי לפני בין אל עד מאוד יותר ב
        ל מ ה ו ש כ""",
    "hi": """
        का की के में है हैं था थे थी और से को पर यह वह ये वे एक नहीं ही भी तो कि जो ने कर हो हुआ गया लिए अपने इस उस
        क्या क्यों कैसे कब कहाँ कौन मैं हम तुम आप मेरा""",
    "zh": """
        的 了 是 在 我 你 您 他 她 它 们 这 那 哪 有 不 就 都 也 很 和 与 及 或 吗 呢 吧 啊 呀 嘛 哦 被 把 对 从 到
        向 给 让 为 以 于 之 其 而 但 又 再 还 更 最 没 没有 不是 什么 怎么 怎样 怎么样 为什么 为何 谁 哪个 哪些
        哪里 哪儿 多少 几个 是不是 有没有 能不能 可以 可能 应该 必须 已经 正在 现在 后来 然后 当时 时候 之后 之前
        以后 以前 因为 所以 如果 虽然 但是 不过 而且 或者 还是 就是 只是 只有 只要 那个 这个 那些 这些 那样 这样
        那么 这么 那里 这里 自己 我们 你们 他们 她们 它们 大家 一个 一下 一些 一样 一直 一定 起来 出来 下来 上来
        过来 过去 来着 到底 究竟 其实 关于 对于 通过 进行 请 请问 告诉""",
    "ja": """
        の に は を た が で て と し れ さ ある いる も する から な こと として い や など なっ ない この ため
        その あっ よう また もの あり まで られ なる へ か だ これ によって により おり より による ず なり られる
        において ば なかっ なく しかし について せ だっ その後 できる それ う ので なお のみ でき き つ における
        および いう さらに でも ら たり その他 たち ます ん なら ました です ください でしょ でした ましょう ません
        それら あの どの どこ いつ 誰 何 なぜ どう どうして どんな どれ だれ なに ここ そこ あそこ こう そう ああ
        だけ しか ほど くらい ぐらい かな よね わ ね よ ぞ さん くん ちゃん 私 僕 俺 君 あなた 彼 彼女""",
    "ko": """
        이 그 저 것 수 등 들 및 또 또는 그리고 그러나 하지만 그런데 그래서 그러면 때문 때 더 안 못 잘 좀 왜 뭐 무엇
        누구 언제 어디 어떻게 어떤 어느 얼마 몇 나 너 저희 우리 내 네 제 나는 너는 있다 있는 있어 있었 없다 없는
        하다 하는 했다 한 할 해 하고 했는 된 되는 된다 이다 입니다 이는 이런 그런 저런 이것 그것 저것 여기 거기 저기
        아니 아니라 같은 대한 대해 위해 통해 따라 에서 으로""",
}  # fmt: skip
LANGUAGES = frozenset(_WORDS)


@cache
def stop_words(language: str) -> frozenset[str]:
    """Returns a language's stop words, in lower case and without accents; none for a language that is not listed."""
    return frozenset(map(fold_accents, _WORDS.get(language, "").split()))


@cache
def languages_of() -> dict[str, tuple[str, ...]]:
    """Returns the languages of each stop word; without its accents unless that is a word of another language."""
    found: dict[str, tuple[str, ...]] = {}
    without: dict[str, tuple[str, ...]] = {}
    for language, words in _WORDS.items():
        for word in set(words.split()):
            found[word] = (*found.get(word, ()), language)
            if (folded := fold_accents(word)) != word:
                without[folded] = (*without.get(folded, ()), language)
    return {word: languages for word, languages in (without | found).items() if len(word) > 1 or not word.isascii()}


def fold_accents(word: str) -> str:
    """Returns the word without accents, in NFC; compatibility variants of a letter become the same letter."""
    if word.isascii():
        return word
    spread = unicodedata.normalize("NFKD", word)
    return unicodedata.normalize("NFC", "".join(c for c in spread if not unicodedata.combining(c)))
